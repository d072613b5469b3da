// One's own place in the call of a room, and who else has one: the room's state (MatrixRTC memberships), so homeservers
// record it as any call. What flows between those who sit there is no matter of this file.

import { type Json, matrix } from "../api.ts";
import type { Home } from "../home.ts";
import { type Member, membership, membersOf, stateKey, type Way } from "./members.ts";
import { eventsOf, newId } from "./phone.ts";
import { MEMBER_TYPE, type RoomEvent } from "./signals.ts";

/** A device that is cut off is out of the call after this time. */
const CUT_OFF_MS = 30_000;
/** Of so many is looked whether they are still in the room; of a larger call those who came first decide its way. */
const CHECKED = 8;

/** Who is in the call of a room now. */
export async function present(home: Home, roomId: string): Promise<readonly Member[]> {
  const types = [MEMBER_TYPE];
  const nothing = { not_types: ["*"] };
  const filter = JSON.stringify({
    presence: nothing,
    account_data: nothing,
    room: {
      rooms: [roomId],
      // Another filter each time: a homeserver may answer what it was asked before with what it said then.
      not_rooms: [`!${newId(4)}:nowhere.invalid`],
      state: { types },
      timeline: { types, limit: 50 },
      ephemeral: nothing,
      account_data: nothing,
    },
  });
  const query = new URLSearchParams({ filter, set_presence: "offline", timeout: "0" });
  const page = await matrix(home.tokens, "GET", `v3/sync?${query}`);
  const found = membersOf([...stateOf(page, roomId), ...eventsOf(page)], Date.now());
  // Whoever was removed from the room could not say that they left its call.
  const others = [...new Set(found.map((each) => each.userId))].filter((each) => each !== home.session.userId);
  const gone = await Promise.all(others.slice(0, CHECKED).map((userId) => isGone(home, roomId, userId)));
  return found.filter((each) => gone[others.indexOf(each.userId)] !== true);
}

async function isGone(home: Home, roomId: string, userId: string): Promise<boolean> {
  const where = `v3/rooms/${encodeURIComponent(roomId)}/state/m.room.member/${encodeURIComponent(userId)}`;
  try {
    const { membership: said } = await matrix(home.tokens, "GET", where);
    return said !== "join";
  } catch {
    return false;
  }
}

/** Which device this session is. */
export async function deviceOf(home: Home): Promise<string> {
  const { device_id } = await matrix(home.tokens, "GET", "v3/account/whoami");
  return String(device_id);
}

/** One's own place, from ``take`` to ``leave``. ``session`` is new each time one comes. */
export class Seat {
  readonly session = newId(8);
  readonly #home: Home;
  readonly #roomId: string;
  readonly #device: string;
  #delayId: string | null = null;
  #stands: "not yet" | "taken" | "left" = "not yet";
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(home: Home, roomId: string, device: string) {
    this.#home = home;
    this.#roomId = roomId;
    this.#device = device;
  }

  get key(): string {
    return stateKey(this.#home.session.userId, this.#device);
  }

  async take(way: Way): Promise<void> {
    this.#stands = "taken";
    await this.#say(membership(this.#device, this.session, way, this.#roomId));
    // Afterwards, since one's own new state takes back what was scheduled before.
    if (this.#stands === "taken") await this.#leaveWhenCutOff();
  }

  async leave(): Promise<void> {
    const stood = this.#stands;
    this.#stands = "left";
    if (stood !== "taken") return;
    clearInterval(this.#timer);
    const left = this.#say({}, { keepalive: true });
    const cancelled = this.#delayed("cancel", true);
    this.#delayId = null;
    await Promise.allSettled([left, cancelled]);
  }

  #say(content: Json, more: { query?: string; keepalive?: boolean } = {}): Promise<Json> {
    const where = `v3/rooms/${encodeURIComponent(this.#roomId)}/state/${MEMBER_TYPE}/${encodeURIComponent(this.key)}`;
    const { query = "", keepalive = false } = more;
    return matrix(this.#home.tokens, "PUT", where + query, content, { keepalive });
  }

  /** Have the homeserver take one out of the call when this page says nothing any more, where it can (MSC4140). */
  async #leaveWhenCutOff(): Promise<void> {
    try {
      const due = await this.#say({}, { query: `?org.matrix.msc4140.delay=${CUT_OFF_MS}` });
      this.#delayId = typeof due.delay_id === "string" ? due.delay_id : null;
    } catch {
      return;
    }
    // Whoever left meanwhile is out already, and once more does no harm.
    if (this.#stands !== "taken") return;
    this.#timer = setInterval(() => void this.#delayed("restart").catch(() => undefined), CUT_OFF_MS / 3);
  }

  async #delayed(action: "restart" | "cancel", keepalive = false): Promise<void> {
    if (this.#delayId === null) return;
    const path = `unstable/org.matrix.msc4140/delayed_events/${encodeURIComponent(this.#delayId)}`;
    await matrix(this.#home.tokens, "POST", path, { action }, { keepalive });
  }
}

function stateOf(page: Json, roomId: string): RoomEvent[] {
  const rooms = (page.rooms ?? {}) as {
    join?: Record<string, { state?: { events?: Omit<RoomEvent, "room_id">[] } }>;
  };
  const events = rooms.join?.[roomId]?.state?.events ?? [];
  return events.map((event) => ({ ...event, room_id: roomId }));
}

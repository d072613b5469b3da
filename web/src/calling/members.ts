// Who is in the call of a room, read from its state, and what they say to each other. Pure: nothing here asks or sends.

import { type Candidate, candidatesOf, MEMBER_TYPE, type RoomEvent } from "./signals.ts";

/** So many people can each send their picture to all others. */
export const MOST = 4;
/** How long a membership holds that nobody takes back. */
export const MEMBER_MS = 4 * 3_600_000;
/** What devices send to each other, past the room. */
export const SIGNAL_TYPE = "org.superapp.call.signal";

/** A device in the call. ``session`` is new each time it comes; ``server`` is the call server that it came over. */
export interface Member {
  key: string;
  userId: string;
  deviceId: string;
  session: string;
  sinceMs: number;
  server: string | null;
}

/** Over which call server a call goes; null is from browser to browser. */
export type Way = string | null;

export type PeerSignal = { roomId: string; from: string; to: string; attempt: string; sender: string } & (
  | { kind: "offer" | "answer"; sdp: string }
  | { kind: "candidates"; candidates: readonly Candidate[] }
);

export function stateKey(userId: string, deviceId: string): string {
  return `_${userId}_${deviceId}_m.call`;
}

/** The content of one's own membership. */
export function membership(deviceId: string, session: string, way: Way = null, roomId = ""): Record<string, unknown> {
  const focus =
    way === null
      ? { focus_active: { type: "full_mesh" }, foci_preferred: [] }
      : {
          focus_active: { type: "livekit", focus_selection: "oldest_membership" },
          foci_preferred: [{ type: "livekit", livekit_service_url: way, livekit_alias: roomId }],
        };
  return {
    application: "m.call",
    call_id: "",
    scope: "m.room",
    device_id: deviceId,
    expires: MEMBER_MS,
    ...focus,
    membershipID: session,
  };
}

/** The way of a call for who comes now: that of who is in it longest, else one's own homeserver's. */
export function wayInto(members: readonly Member[], own: Way): Way {
  const [first] = members;
  return first === undefined ? own : first.server;
}

/** What the call server calls a device (``sfu/get``), as other clients derive it from memberships of this kind. */
export function identityOf(userId: string, deviceId: string): string {
  return `${userId}:${deviceId}`;
}

/** Whose device it is that the call server calls so. It vouches for the name, whatever the room says. */
export function personOf(identity: string, members: readonly Member[]): string {
  const member = members.find((each) => identityOf(each.userId, each.deviceId) === identity);
  return member?.userId ?? /^(@[^:]+:.+):[^:]+$/.exec(identity)?.[1] ?? identity;
}

/** Those in the call, in the order in which they came; later events replace earlier ones of the same device. */
export function membersOf(events: readonly RoomEvent[], nowMs: number): Member[] {
  const found = new Map<string, Member>();
  for (const event of events) {
    if (event.type !== MEMBER_TYPE || event.state_key === undefined) continue;
    const { device_id, membershipID, application, expires } = event.content;
    const lastsMs = typeof expires === "number" ? Math.min(expires, MEMBER_MS) : MEMBER_MS;
    const isIn =
      application === "m.call" &&
      typeof device_id === "string" &&
      // Nobody says of another that they are in.
      event.state_key === stateKey(event.sender, device_id) &&
      event.origin_server_ts + lastsMs > nowMs;
    if (!isIn) {
      found.delete(event.state_key);
      continue;
    }
    found.set(event.state_key, {
      key: event.state_key,
      userId: event.sender,
      deviceId: device_id,
      session: typeof membershipID === "string" ? membershipID : "",
      sinceMs: event.origin_server_ts,
      server: serverIn(event.content),
    });
  }
  return [...found.values()].sort((one, other) => one.sinceMs - other.sinceMs || (one.key < other.key ? -1 : 1));
}

function serverIn({ focus_active, foci_preferred }: Record<string, unknown>): string | null {
  if (typeof focus_active !== "object" || focus_active === null || !Array.isArray(foci_preferred)) return null;
  if ((focus_active as { type?: unknown }).type !== "livekit") return null;
  for (const focus of foci_preferred as unknown[]) {
    const { type, livekit_service_url } = (focus ?? {}) as { type?: unknown; livekit_service_url?: unknown };
    if (type === "livekit" && typeof livekit_service_url === "string") return livekit_service_url;
  }
  return null;
}

/** Which of two begins: the one whose name comes first. */
export function begins(mine: string, theirs: string): boolean {
  return mine < theirs;
}

export function readPeerSignal(message: {
  type?: unknown;
  sender?: unknown;
  content?: Record<string, unknown>;
}): PeerSignal | null {
  const { type, sender, content = {} } = message;
  if (type !== SIGNAL_TYPE || typeof sender !== "string") return null;
  const { room_id, from, to, attempt, kind, sdp } = content;
  if (typeof room_id !== "string" || typeof from !== "string" || typeof to !== "string" || typeof attempt !== "string")
    return null;
  const base = { roomId: room_id, from, to, attempt, sender };
  if ((kind === "offer" || kind === "answer") && typeof sdp === "string") return { ...base, kind, sdp };
  if (kind === "candidates") return { ...base, kind, candidates: candidatesOf(content.candidates) };
  return null;
}

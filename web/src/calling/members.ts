// Who is in the call of a room, read from its state, and what they say to each other. Pure: nothing here asks or sends.

import { type Candidate, candidatesOf, MEMBER_TYPE, type RoomEvent } from "./signals.ts";

/** So many people can each send their picture to all others. */
export const MOST = 4;
/** How long a membership holds that nobody takes back. */
export const MEMBER_MS = 4 * 3_600_000;
/** What devices send to each other, past the room. */
export const SIGNAL_TYPE = "org.superapp.call.signal";

/** A device in the call. ``session`` is new each time it comes. */
export interface Member {
  key: string;
  userId: string;
  deviceId: string;
  session: string;
  sinceMs: number;
}

export type PeerSignal = { roomId: string; from: string; to: string; attempt: string; sender: string } & (
  | { kind: "offer" | "answer"; sdp: string }
  | { kind: "candidates"; candidates: readonly Candidate[] }
);

export function stateKey(userId: string, deviceId: string): string {
  return `_${userId}_${deviceId}_m.call`;
}

/** The content of one's own membership. */
export function membership(deviceId: string, session: string): Record<string, unknown> {
  return {
    application: "m.call",
    call_id: "",
    scope: "m.room",
    device_id: deviceId,
    expires: MEMBER_MS,
    focus_active: { type: "full_mesh" },
    foci_preferred: [],
    membershipID: session,
  };
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
    });
  }
  return [...found.values()].sort((one, other) => one.sinceMs - other.sinceMs || (one.key < other.key ? -1 : 1));
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

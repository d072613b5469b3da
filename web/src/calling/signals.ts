// What the events of a call say (Matrix specification, "Voice over IP", version 1). Pure: nothing here asks or sends.

export interface RoomEvent {
  type: string;
  room_id: string;
  sender: string;
  content: Record<string, unknown>;
  origin_server_ts: number;
  state_key?: string;
  unsigned?: { age?: number };
}

export type Media = "audio" | "video";

/** Somebody rings. */
export interface Invite {
  callId: string;
  partyId: string;
  roomId: string;
  caller: string;
  media: Media;
  sdp: string;
  /** How long it goes on ringing. */
  leftMs: number;
}

export interface Candidate {
  candidate: string;
  sdpMid?: string;
  sdpMLineIndex?: number;
}

export type Signal = { callId: string; partyId: string; roomId: string; sender: string } & (
  | { kind: "answer"; sdp: string }
  | { kind: "candidates"; candidates: readonly Candidate[] }
  | { kind: "selected"; selected: string }
  | { kind: "negotiate"; type: "offer" | "answer"; sdp: string }
  | { kind: "rejected"; busy: boolean }
  | { kind: "over" }
  | { kind: "unavailable" }
);

/** Who is in the call of a room, a device each (MatrixRTC). */
export const MEMBER_TYPE = "org.matrix.msc3401.call.member";

/** What the homeserver is asked for, and nothing else of what happens in rooms. */
export const HEARD_TYPES = ["m.call.*", "org.superapp.call.screened", MEMBER_TYPE] as const;
export const LIFETIME_MS = 60_000;
const VERSION = "1";
const LATE_MS = 120_000;

/** The ring that an event is, if it rings now and for this person. */
export function readInvite(event: RoomEvent, me: string, nowMs: number): Invite | null {
  const { content } = event;
  if (event.type !== "m.call.invite" || event.sender === me) return null;
  if (typeof content.invitee === "string" && content.invitee !== me) return null;
  const sdp = sdpOf(content.offer, "offer");
  const callId = text(content.call_id);
  if (sdp === null || callId === null) return null;
  const lifetime = typeof content.lifetime === "number" ? Math.min(content.lifetime, LATE_MS) : LIFETIME_MS;
  // The age is counted by servers alone; a clock of one's own may be wrong.
  const leftMs = lifetime - (event.unsigned?.age ?? Math.max(0, nowMs - event.origin_server_ts));
  if (leftMs <= 0) return null;
  const media = /^m=video [1-9]/m.test(sdp) ? "video" : "audio";
  const partyId = text(content.party_id) ?? "";
  return { callId, partyId, roomId: event.room_id, caller: event.sender, media, sdp, leftMs };
}

export function readSignal(event: RoomEvent): Signal | null {
  const { content } = event;
  const callId = text(content.call_id);
  if (callId === null) return null;
  const from = { callId, partyId: text(content.party_id) ?? "", roomId: event.room_id, sender: event.sender };
  switch (event.type) {
    case "m.call.answer": {
      const sdp = sdpOf(content.answer, "answer");
      return sdp === null ? null : { ...from, kind: "answer", sdp };
    }
    case "m.call.candidates":
      return { ...from, kind: "candidates", candidates: candidatesOf(content.candidates) };
    case "m.call.select_answer": {
      const selected = text(content.selected_party_id);
      return selected === null ? null : { ...from, kind: "selected", selected };
    }
    case "m.call.negotiate": {
      for (const type of ["offer", "answer"] as const) {
        const sdp = sdpOf(content.description, type);
        if (sdp !== null) return { ...from, kind: "negotiate", type, sdp };
      }
      return null;
    }
    case "m.call.reject":
      return { ...from, kind: "rejected", busy: content.reason === "user_busy" };
    case "m.call.hangup":
      return { ...from, kind: "over" };
    case "org.superapp.call.screened":
      return { ...from, kind: "unavailable" };
    default:
      return null;
  }
}

/** Rings among new events that nothing after them has ended already. */
export function ringing(events: readonly RoomEvent[], me: string, nowMs: number): Invite[] {
  const ended = new Set(
    events.flatMap((event) => {
      const signal = readSignal(event);
      const ends = signal !== null && ["answer", "rejected", "over"].includes(signal.kind);
      return ends ? [signal.callId] : [];
    }),
  );
  return events.flatMap((event) => {
    const invite = readInvite(event, me, nowMs);
    return invite === null || ended.has(invite.callId) ? [] : [invite];
  });
}

/** What every event of a call has. */
export function common(callId: string, partyId: string): Record<string, unknown> {
  return { call_id: callId, party_id: partyId, version: VERSION };
}

function sdpOf(description: unknown, type: string): string | null {
  if (typeof description !== "object" || description === null) return null;
  const { type: said, sdp } = description as { type?: unknown; sdp?: unknown };
  return said === type && typeof sdp === "string" ? sdp : null;
}

export function candidatesOf(found: unknown): Candidate[] {
  if (!Array.isArray(found)) return [];
  return (found as unknown[]).flatMap((each) => {
    const { candidate, sdpMid, sdpMLineIndex } = (each ?? {}) as Partial<Record<keyof Candidate, unknown>>;
    // An empty one says that there are no more.
    if (typeof candidate !== "string" || candidate === "") return [];
    return [
      {
        candidate,
        ...(typeof sdpMid === "string" ? { sdpMid } : {}),
        ...(typeof sdpMLineIndex === "number" ? { sdpMLineIndex } : {}),
      },
    ];
  });
}

function text(found: unknown): string | null {
  return typeof found === "string" && found !== "" ? found : null;
}

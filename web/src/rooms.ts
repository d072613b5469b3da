// The rooms that one is in, as far as one gives or collects money in them: their names, and the gifts and collections in them.

import { type Json, matrix } from "./api.ts";
import { useHome } from "./home.ts";
import { type Resource, useResource } from "./resources.ts";

export interface Room {
  roomId: string;
  /** As its members call it; null where it has no name and ``others`` stand for it. */
  name: string | null;
  others: readonly string[];
  members: number;
  encrypted: boolean;
  gifts: readonly RoomGift[];
  collections: readonly RoomCollection[];
}

/** A collection as its event tells. */
export interface RoomCollection {
  requestId: string;
  requester: string;
  amount: number;
  currency: string;
  memo: string | null;
  sentMs: number;
}

/** A gift as its event tells; how it stands now is known to its giver's homeserver. */
export interface RoomGift {
  giftId: string;
  giver: string;
  amount: number;
  currency: string;
  shares: number;
  memo: string | null;
  sentMs: number;
}

const GIFT = "org.superapp.gift";
const REQUEST = "org.superapp.payment.request";
const SEEN = 30;
/** Gifts end by themselves after a day. */
const DAY_MS = 86_400_000;
/** Requests end by themselves after thirty days, unless they say otherwise. */
const COLLECTED_MS = 30 * DAY_MS;

const FILTER = JSON.stringify({
  presence: { types: [] },
  account_data: { types: [] },
  room: {
    account_data: { types: [] },
    ephemeral: { types: [] },
    // Of all types: Synapse leaves rooms out in whose newest events there is none of the types asked for.
    timeline: { limit: SEEN },
    state: { types: ["m.room.name", "m.room.encryption"], lazy_load_members: true },
  },
});

/** Asked of the homeserver in one question, when one comes to where it is needed. */
export function useRooms(): Resource<Room[]> {
  const { tokens, about } = useHome();
  const assistant = `@assistant:${about.server_name}`;
  return useResource("rooms", async () => {
    const query = new URLSearchParams({ filter: FILTER, set_presence: "offline", timeout: "0" });
    const rooms = roomsOf(await matrix(tokens, "GET", `v3/sync?${query}`), Date.now());
    return rooms.filter((room) => room.others.length !== 1 || room.others[0] !== assistant);
  });
}

/** The rooms of an answer of ``/sync`` (client-server API), those with a name first. What has another form is not there. */
export function roomsOf(answer: Json, nowMs: number): Room[] {
  const joined = record(record(answer.rooms).join);
  const rooms = Object.entries(joined).map(([roomId, content]) => roomOf(roomId, record(content), nowMs));
  return rooms.sort(
    (one, other) =>
      Number(one.name === null) - Number(other.name === null) ||
      (one.name ?? one.others.join()).localeCompare(other.name ?? other.others.join()),
  );
}

function roomOf(roomId: string, content: Json, nowMs: number): Room {
  const summary = record(content.summary);
  const state = list(record(content.state).events).map(record);
  const name = state.findLast((event) => event.type === "m.room.name");
  const heroes = list(summary["m.heroes"]).filter((each) => typeof each === "string");
  const given = record(name?.content).name;
  return {
    roomId,
    name: typeof given === "string" && given.trim() !== "" ? given : null,
    others: heroes,
    members: Number(summary["m.joined_member_count"] ?? 0) + Number(summary["m.invited_member_count"] ?? 0),
    encrypted: state.some((event) => event.type === "m.room.encryption"),
    gifts: list(record(content.timeline).events)
      .map((event) => giftOf(record(event)))
      .filter((gift): gift is RoomGift => gift !== null && gift.sentMs > nowMs - DAY_MS),
    collections: list(record(content.timeline).events)
      .map((event) => collectionOf(record(event)))
      .filter((found): found is RoomCollection => found !== null && found.sentMs > nowMs - COLLECTED_MS),
  };
}

function giftOf(event: Json): RoomGift | null {
  const { gift_id, amount, currency, shares, memo } = record(event.content);
  if (event.type !== GIFT || typeof event.sender !== "string" || typeof gift_id !== "string") return null;
  if (!Number.isSafeInteger(amount) || typeof currency !== "string") return null;
  return {
    giftId: gift_id,
    giver: event.sender,
    amount: amount as number,
    currency,
    shares: Number.isSafeInteger(shares) ? (shares as number) : 1,
    memo: typeof memo === "string" ? memo : null,
    sentMs: Number(event.origin_server_ts ?? 0),
  };
}

function collectionOf(event: Json): RoomCollection | null {
  const { request_id, amount, currency, memo, goal } = record(event.content);
  if (event.type !== REQUEST || goal !== true) return null;
  if (typeof event.sender !== "string" || typeof request_id !== "string") return null;
  if (!Number.isSafeInteger(amount) || typeof currency !== "string") return null;
  return {
    requestId: request_id,
    requester: event.sender,
    amount: amount as number,
    currency,
    memo: typeof memo === "string" ? memo : null,
    sentMs: Number(event.origin_server_ts ?? 0),
  };
}

function record(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

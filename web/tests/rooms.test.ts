import assert from "node:assert/strict";
import { test } from "node:test";
import { roomsOf } from "../src/rooms.ts";

const NOW = 1_800_000_000_000;

function answerOf(...rooms: [string, object][]) {
  return { rooms: { join: Object.fromEntries(rooms) } };
}

const named = (name: string) => ({ events: [{ type: "m.room.name", content: { name } }] });

test("rooms with a name come first, and others are called by who is in them", () => {
  const rooms = roomsOf(
    answerOf(
      ["!b:x", { summary: { "m.heroes": ["@bob:x"], "m.joined_member_count": 2 } }],
      ["!a:x", { state: named("Trip"), summary: { "m.joined_member_count": 3, "m.invited_member_count": 1 } }],
    ),
    NOW,
  );
  assert.deepEqual(
    rooms.map((room) => [room.roomId, room.name, room.others, room.members]),
    [
      ["!a:x", "Trip", [], 4],
      ["!b:x", null, ["@bob:x"], 2],
    ],
  );
});

test("a room that is encrypted says so", () => {
  const state = { events: [{ type: "m.room.encryption", content: {} }] };
  assert.deepEqual(
    roomsOf(answerOf(["!a:x", { state }], ["!b:x", {}]), NOW).map((room) => room.encrypted),
    [true, false],
  );
});

test("gifts of the last day are there, and what only looks like one is not", () => {
  const content = { gift_id: "00", amount: 500, currency: "EUR", shares: 2 };
  const gift = { type: "org.superapp.gift", sender: "@a:x", origin_server_ts: NOW - 1000, content };
  const events = [
    gift,
    { ...gift, origin_server_ts: NOW - 86_400_000 },
    { ...gift, content: { ...content, amount: "500" } },
    { ...gift, sender: 7 },
    { ...gift, type: "m.room.message" },
    null,
  ];
  const [room] = roomsOf(answerOf(["!a:x", { timeline: { events } }]), NOW);
  assert.deepEqual(room?.gifts, [
    { giftId: "00", giver: "@a:x", amount: 500, currency: "EUR", shares: 2, memo: null, sentMs: NOW - 1000 },
  ]);
});

test("collections of the last thirty days are there, and requests for somebody are not", () => {
  const content = { request_id: "11", amount: 900, currency: "EUR", memo: "Boat", goal: true };
  const event = { type: "org.superapp.payment.request", sender: "@a:x", origin_server_ts: NOW - 1000, content };
  const events = [event, { ...event, content: { ...content, goal: false } }, { ...event, origin_server_ts: 5 }];
  const [room] = roomsOf(answerOf(["!a:x", { timeline: { events } }]), NOW);
  assert.deepEqual(room?.collections, [
    { requestId: "11", requester: "@a:x", amount: 900, currency: "EUR", memo: "Boat", sentMs: NOW - 1000 },
  ]);
});

test("an answer of another form holds no rooms", () => {
  for (const answer of [{}, { rooms: [] }, { rooms: { join: null } }]) assert.deepEqual(roomsOf(answer, NOW), []);
});

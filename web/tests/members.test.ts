import assert from "node:assert/strict";
import { test } from "node:test";
import {
  begins,
  MEMBER_MS,
  membership,
  membersOf,
  personOf,
  readPeerSignal,
  SIGNAL_TYPE,
  stateKey,
  wayInto,
} from "../src/calling/members.ts";
import { MEMBER_TYPE, type RoomEvent } from "../src/calling/signals.ts";
import { linkIn } from "../src/links.ts";

const NOW = 10_000_000;

function joined(userId: string, sinceMs: number, more: Partial<RoomEvent> = {}): RoomEvent {
  return {
    type: MEMBER_TYPE,
    room_id: "!room",
    sender: userId,
    state_key: stateKey(userId, "DEV"),
    origin_server_ts: sinceMs,
    content: membership("DEV", `session of ${userId}`),
    ...more,
  };
}

const names = (events: RoomEvent[], nowMs = NOW) => membersOf(events, nowMs).map((each) => each.userId);

test("those who came are in the call in their order, until they leave or say nothing for hours", () => {
  const events = [joined("@b:x", 2), joined("@a:x", 2), joined("@c:y", 1)];
  assert.deepEqual(names(events), ["@c:y", "@a:x", "@b:x"]);
  assert.deepEqual(names([...events, joined("@c:y", 3, { content: {} })]), ["@a:x", "@b:x"]);
  assert.deepEqual(names(events, 2 + MEMBER_MS), []);
  // A device that came again came when it did so.
  assert.deepEqual(names([...events, joined("@c:y", 3)]), ["@a:x", "@b:x", "@c:y"]);
});

test("nobody says of another that they are in the call", () => {
  assert.deepEqual(names([joined("@a:x", 1, { state_key: stateKey("@b:x", "DEV") })]), []);
  assert.deepEqual(names([joined("@a:x", 1, { content: membership("OTHER", "s") })]), []);
});

test("a call goes where it went before, and otherwise where one's own homeserver has it go", () => {
  const own = "https://a.example/livekit";
  const over = (userId: string, sinceMs: number, server: string | null) =>
    joined(userId, sinceMs, { content: membership("DEV", "s", server, "!room") });
  const way = (events: RoomEvent[], mine: string | null) => wayInto(membersOf(events, NOW), mine);
  assert.equal(way([], own), own);
  assert.equal(way([], null), null);
  assert.equal(way([over("@b:x", 1, null)], own), null);
  assert.equal(
    way([over("@b:x", 2, null), over("@c:y", 1, "https://y.example/livekit")], own),
    "https://y.example/livekit",
  );
  // A focus of a kind that nobody knows is no call server.
  const odd = joined("@b:x", 1, { content: { ...membership("DEV", "s"), foci_preferred: [null, { type: "x" }] } });
  assert.equal(way([odd], own), null);
});

test("the name at the call server says whose device it is, ports and all", () => {
  const members = membersOf([joined("@b:x:8448", 1)], NOW);
  assert.equal(personOf("@b:x:8448:DEV", members), "@b:x:8448");
  assert.equal(personOf("@c:y:8448:PHONE", []), "@c:y:8448");
  assert.equal(personOf("Zm9v", []), "Zm9v");
});

test("of two one begins", () => {
  assert.notEqual(begins("a", "b"), begins("b", "a"));
});

test("what devices say to each other is read or left", () => {
  const content = { room_id: "!r", from: "s1", to: "s2", attempt: "1" };
  const read = (more: Record<string, unknown>, type = SIGNAL_TYPE) =>
    readPeerSignal({ type, sender: "@a:x", content: { ...content, ...more } });
  assert.deepEqual(read({ kind: "offer", sdp: "v=0" }), {
    roomId: "!r",
    from: "s1",
    to: "s2",
    attempt: "1",
    sender: "@a:x",
    kind: "offer",
    sdp: "v=0",
  });
  assert.equal(read({ kind: "candidates", candidates: [{ candidate: "c" }, 5] })?.kind, "candidates");
  for (const wrong of [
    { kind: "offer" },
    { kind: "answer", sdp: 5 },
    { kind: "more" },
    { kind: "offer", sdp: "v", to: 1 },
  ])
    assert.equal(read(wrong), null);
  assert.equal(read({ kind: "offer", sdp: "v=0" }, "m.call.invite"), null);
  assert.equal(readPeerSignal({}), null);
});

test("a link into a call is found in what somebody pasted", () => {
  const link = `${"0a".repeat(16)}@hs.example:8448`;
  for (const pasted of [link, ` ${link}\n`, `https://x.example/superapp/app/#/call-link/${encodeURIComponent(link)}`])
    assert.equal(linkIn(pasted), link);
  for (const wrong of ["", "@bob:x", "0a@hs.example", "%"]) assert.equal(linkIn(wrong), null);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { common, readInvite, readSignal, ringing, type RoomEvent } from "../src/calling/signals.ts";

const ME = "@me:here";
const OTHER = "@other:there";
const NOW = 1_000_000;
const SDP = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";

function event(type: string, content: Record<string, unknown>, more: Partial<RoomEvent> = {}): RoomEvent {
  return {
    type,
    room_id: "!room",
    sender: OTHER,
    origin_server_ts: NOW,
    content: { ...common("call", "party"), ...content },
    ...more,
  };
}

const invite = (content: Record<string, unknown> = {}, more: Partial<RoomEvent> = {}) =>
  event("m.call.invite", { offer: { type: "offer", sdp: SDP }, lifetime: 60_000, ...content }, more);

test("an invitation rings for as long as it has left by the servers' count", () => {
  assert.equal(readInvite(invite(), ME, NOW)?.leftMs, 60_000);
  assert.equal(readInvite(invite({}, { unsigned: { age: 50_000 } }), ME, NOW)?.leftMs, 10_000);
  assert.equal(readInvite(invite({}, { unsigned: { age: 60_000 } }), ME, NOW), null);
  // Without an age the clock of this device has to do, and one that is slow makes nothing ring for longer.
  assert.equal(readInvite(invite(), ME, NOW + 60_000), null);
  assert.equal(readInvite(invite(), ME, NOW - 90_000)?.leftMs, 60_000);
  assert.equal(readInvite(invite({ lifetime: 10 ** 9 }), ME, NOW)?.leftMs, 120_000);
});

test("one's own ring, a ring for somebody else and a broken one do not ring", () => {
  assert.equal(readInvite(invite({}, { sender: ME }), ME, NOW), null);
  assert.equal(readInvite(invite({ invitee: "@third:there" }), ME, NOW), null);
  assert.notEqual(readInvite(invite({ invitee: ME }), ME, NOW), null);
  for (const broken of [{ call_id: 7 }, { offer: null }, { offer: { type: "answer", sdp: SDP } }, { call_id: "" }])
    assert.equal(readInvite(invite(broken), ME, NOW), null);
});

test("a picture is offered where its line is not switched off", () => {
  const media = (line: string) => readInvite(invite({ offer: { type: "offer", sdp: SDP + line } }), ME, NOW)?.media;
  assert.equal(media(""), "audio");
  assert.equal(media("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), "video");
  assert.equal(media("m=video 0 UDP/TLS/RTP/SAVPF 96\r\n"), "audio");
});

test("what was answered, refused or given up by the time one hears of it does not ring", () => {
  const answer = { answer: { type: "answer", sdp: SDP } };
  for (const [type, content] of [
    ["m.call.answer", answer],
    ["m.call.reject", {}],
    ["m.call.hangup", {}],
  ] as const) {
    assert.equal(ringing([invite(), event(type, content, { sender: ME })], ME, NOW).length, 0, type);
    assert.equal(ringing([invite(), event(type, { ...content, call_id: "another" })], ME, NOW).length, 1, type);
  }
  assert.equal(ringing([invite(), event("m.call.candidates", { candidates: [] })], ME, NOW).length, 1);
});

test("signals are read, and what is malformed in them is left out", () => {
  const read = (type: string, content: Record<string, unknown>) => readSignal(event(type, content));
  assert.deepEqual(read("m.call.hangup", {}), {
    callId: "call",
    partyId: "party",
    roomId: "!room",
    sender: OTHER,
    kind: "over",
  });
  const candidates = [{ candidate: "c", sdpMid: "0", extra: 1 }, { candidate: "" }, { candidate: 7 }, null];
  const found = read("m.call.candidates", { candidates });
  assert.deepEqual(found?.kind === "candidates" && found.candidates, [{ candidate: "c", sdpMid: "0" }]);
  assert.equal(read("m.call.answer", { answer: { type: "offer", sdp: SDP } }), null);
  assert.equal(read("m.call.select_answer", {}), null);
  assert.equal(read("m.call.negotiate", { description: { type: "answer", sdp: SDP } })?.kind, "negotiate");
  assert.equal(read("m.call.negotiate", { description: { type: "rollback", sdp: SDP } }), null);
  const rejected = read("m.call.reject", { reason: "user_busy" });
  assert.equal(rejected?.kind === "rejected" && rejected.busy, true);
  assert.equal(read("org.superapp.call.screened", { reason: "not_available" })?.kind, "unavailable");
  assert.equal(read("m.room.message", {}), null);
  assert.equal(read("m.call.hangup", { call_id: undefined }), null);
});

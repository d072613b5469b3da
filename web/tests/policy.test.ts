import assert from "node:assert/strict";
import { test } from "node:test";
import { changedKeys, readCallPolicy, readPaymentPolicy, writeCallPolicy, writePaymentPolicy } from "../src/policy.ts";

test("a policy that is read and written says the same, unknown keys included", () => {
  const policy = {
    v: 1,
    who: ["shared_rooms", "contacts"],
    allow: ["@mum:example.org"],
    servers: { deny: ["*.example.net"] },
    quiet: {
      time_zone: "Europe/Berlin",
      windows: [
        { from: "22:00", to: "07:00", days: ["mon"] },
        { from: "12:00", to: "13:00" },
      ],
      repeat_ms: 180000,
    },
    refusal: "silent",
    price: { later: true },
  };
  const form = readCallPolicy(policy);
  assert.deepEqual(form, { who: "known", quiet: { from: "22:00", to: "07:00" }, refusal: "silent" });
  assert.deepEqual(writeCallPolicy(policy, form, "UTC"), { ...policy, who: ["contacts", "shared_rooms"] });
});

test("a choice that this page has no word for stays until another is made", () => {
  const policy = { v: 1, who: ["verified"] };
  const form = readCallPolicy(policy);
  assert.equal(form.who, null);
  assert.deepEqual(writeCallPolicy(policy, form, "UTC").who, ["verified"]);
  assert.deepEqual(writeCallPolicy(policy, { ...form, who: "nobody" }, "UTC").who, ["nobody"]);
});

test("quiet hours come with a time zone, and leave only the window that is shown", () => {
  const on = writeCallPolicy(
    null,
    { who: null, quiet: { from: "22:00", to: "07:00" }, refusal: "polite" },
    "Asia/Tokyo",
  );
  assert.deepEqual(on, {
    v: 1,
    refusal: "polite",
    quiet: { time_zone: "Asia/Tokyo", windows: [{ from: "22:00", to: "07:00" }] },
  });
  const off = { who: null, quiet: null, refusal: "polite" } as const;
  assert.equal(writeCallPolicy(on, off, "UTC").quiet, undefined);
  const two = { v: 1, quiet: { time_zone: "UTC", windows: [{ from: "1" }, { from: "2" }] } };
  assert.deepEqual(writeCallPolicy(two, off, "UTC").quiet, { time_zone: "UTC", windows: [{ from: "2" }] });
});

test("only what differs is written, so that what others change meanwhile stays", () => {
  const before = { v: 1, who: ["everyone"], quiet: { time_zone: "UTC", windows: [] }, price: { amount: 60 } };
  const { quiet: _, ...next } = { ...before, who: ["contacts"] };
  assert.deepEqual(changedKeys(before, next), { who: ["contacts"], quiet: null });
  assert.deepEqual(changedKeys(null, { v: 1, who: ["contacts"] }), { v: 1, who: ["contacts"] });
  assert.deepEqual(changedKeys(before, structuredClone(before)), {});
});

test("without a policy everybody may pay, and nobody is asked", () => {
  assert.deepEqual(readPaymentPolicy(null), { who: "everyone", ask: false, minimum: null });
});

test("a payment policy keeps what it does not know", () => {
  const policy = {
    v: 1,
    from: ["contacts"],
    accept: "ask",
    minimum: { amount: 100, currency: "EUR" },
    memos: "hidden",
  };
  const form = readPaymentPolicy(policy);
  assert.deepEqual(form, { who: "contacts", ask: true, minimum: { amount: 100, currency: "EUR" } });
  assert.deepEqual(writePaymentPolicy(policy, form), policy);
  assert.equal(writePaymentPolicy(policy, { ...form, minimum: null }).minimum, undefined);
});

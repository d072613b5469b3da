import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_TERMS, termsOf, WORKDAYS } from "../src/call-terms.ts";

test("a link of which nothing is said is open to everybody at any time", () => {
  assert.deepEqual(termsOf(NO_TERMS, "Europe/Berlin"), { title: "", waiting_room: false, max: 0 });
});

test("a live room is sound alone, on a stage", () => {
  const terms = termsOf({ ...NO_TERMS, kind: "live", title: " Talk ", waiting: true, most: "20" }, "Europe/Berlin");
  assert.deepEqual(terms, { title: "Talk", waiting_room: true, max: 20, stage: true, media: "audio" });
});

test("opening hours are by the clock of a zone, their days in the order of the week", () => {
  const hours = { from: "09:00", to: "17:00", days: ["fri", "mon"] as const };
  const terms = termsOf({ ...NO_TERMS, hours }, "Europe/Berlin");
  assert.deepEqual(typeof terms === "string" ? terms : terms.hours, {
    time_zone: "Europe/Berlin",
    windows: [{ from: "09:00", to: "17:00", days: ["mon", "fri"] }],
  });
  assert.equal(WORKDAYS.length, 5);
});

test("what cannot be is named", () => {
  for (const most of ["0", "-1", "1.5", "100001", "many"])
    assert.equal(termsOf({ ...NO_TERMS, most }, "UTC"), "most", most);
  const from = "2026-05-02T10:00";
  assert.equal(termsOf({ ...NO_TERMS, from, until: from }, "UTC"), "order");
  assert.equal(termsOf({ ...NO_TERMS, hours: { from: "09:00", to: "17:00", days: [] } }, "UTC"), "days");
});

test("a price is passed on as it was entered", () => {
  const terms = termsOf({ ...NO_TERMS, price: { amount: 60, currency: "EUR" } }, "UTC");
  assert.deepEqual(typeof terms === "string" ? terms : terms.price, { amount: 60, currency: "EUR" });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { daysOf, monthSpan } from "../src/month.ts";

const payment = (at: Date, amount: number, more: object = {}) => ({
  created_ts: at.getTime(),
  direction: "incoming",
  amount,
  currency: "EUR",
  state: "completed",
  ...more,
});

test("a month has its days, in leap years and over the turn of a year", () => {
  assert.equal(monthSpan(new Date(2028, 2, 31), 1).days, 29);
  assert.equal(monthSpan(new Date(2027, 2, 31), 1).days, 28);
  const december = monthSpan(new Date(2027, 0, 15), 1);
  assert.deepEqual([december.first.getFullYear(), december.first.getMonth(), december.days], [2026, 11, 31]);
});

test("a day counts what came and what went, and the month's ends belong to it once", () => {
  const now = new Date(2026, 10, 22);
  const days = daysOf(
    [
      payment(new Date(2026, 10, 1, 0, 0, 0), 100),
      payment(new Date(2026, 10, 30, 23, 59, 59, 999), 200),
      payment(new Date(2026, 11, 1, 0, 0, 0), 400),
      payment(new Date(2026, 9, 31, 23, 59, 59, 999), 800),
      payment(new Date(2026, 10, 5), 10, { direction: "outgoing" }),
      payment(new Date(2026, 10, 5), 20, { direction: "outgoing" }),
    ],
    "EUR",
    now,
    0,
  );
  assert.equal(days.length, 30);
  assert.deepEqual(days[0], { day: 1, received: 100, sent: 0 });
  assert.deepEqual(days[4], { day: 5, received: 0, sent: 30 });
  assert.deepEqual(days[29], { day: 30, received: 200, sent: 0 });
  assert.equal(
    days.reduce((sum, day) => sum + day.received, 0),
    300,
  );
});

test("what did not move, and other currencies, do not count", () => {
  const now = new Date(2026, 10, 22);
  const found = daysOf(
    [
      payment(new Date(2026, 10, 2), 1, { state: "declined" }),
      payment(new Date(2026, 10, 2), 2, { state: "awaiting_acceptance" }),
      payment(new Date(2026, 10, 2), 4, { currency: "USD" }),
    ],
    "EUR",
    now,
    0,
  );
  assert.ok(found.every((day) => day.received === 0 && day.sent === 0));
});

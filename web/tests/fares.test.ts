import assert from "node:assert/strict";
import test from "node:test";
import { amountIn, costOf, firstOf } from "../src/fares.ts";

test("talk costs by the whole second, rounded down, and never more than was confirmed", () => {
  const fare = { amount: 60, most: 120 };
  assert.deepEqual(
    [0, 999, 1_000, 59_999, 60_000, 61_500, 3_600_000].map((ms) => costOf(fare, ms)),
    [0, 0, 1, 59, 60, 61, 120],
  );
  assert.equal(costOf({ amount: 7, most: 1_000 }, 20_000), 2);
  assert.equal(costOf({ amount: 60, most: 120 }, -5_000), 0);
});

test("prices beyond what a number holds exactly are not rounded", () => {
  assert.equal(costOf({ amount: 999_999_999_999, most: Number.MAX_SAFE_INTEGER }, 14_399_000), 239_983_333_333_093);
});

test("three minutes lie aside at first, or all that was confirmed", () => {
  assert.deepEqual([firstOf(60, 30), firstOf(60, 1)], [180, 60]);
});

test("an amount is read from a refusal only if it is one", () => {
  assert.deepEqual(amountIn({ amount: 60, currency: "EUR", per: "minute" }), { amount: 60, currency: "EUR" });
  assert.equal(amountIn({ amount: 6.5, currency: "EUR" }), null);
  assert.equal(amountIn({ amount: 60 }), null);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { readShares, splitAmount } from "../src/splits.ts";

test("what does not divide goes a unit each to oneself first and then in order", () => {
  assert.deepEqual(splitAmount(1000, "equal", [1, 1], 1), { mine: 334, parts: [333, 333] });
  assert.deepEqual(splitAmount(1001, "equal", [1, 1], 1), { mine: 334, parts: [334, 333] });
  assert.deepEqual(splitAmount(1000, "equal", [1, 1, 1], 0), { mine: 0, parts: [334, 333, 333] });
});

test("shares get the largest remainders first, as the homeserver gives them", () => {
  assert.deepEqual(splitAmount(100, "shares", [2, 1], 0), { mine: 0, parts: [67, 33] });
  assert.deepEqual(splitAmount(100, "shares", [1, 5], 1), { mine: 14, parts: [14, 72] });
});

test("parts and one's own make the amount to the last unit", () => {
  for (const amount of [70, 999, 10_007, 9_007_199_254_740_991])
    for (const parts of [[1], [3, 4], [1, 2, 3, 5]]) {
      const split = splitAmount(amount, "shares", parts, 2);
      assert.equal(
        (split?.parts ?? []).reduce((sum, each) => sum + each, split?.mine ?? 0),
        amount,
      );
    }
});

test("amounts leave the rest to oneself and may not be more than there is", () => {
  assert.deepEqual(splitAmount(1000, "amounts", [400, 500], 0), { mine: 100, parts: [400, 500] });
  assert.equal(splitAmount(1000, "amounts", [400, 601], 0), null);
  assert.equal(splitAmount(1000, "amounts", [400, null], 0), null);
});

test("who would owe nothing makes it no split", () => {
  assert.equal(splitAmount(2, "equal", [1, 1, 1], 0), null);
  assert.equal(splitAmount(100, "shares", [0, 1], 0), null);
  assert.equal(splitAmount(100, "shares", [], 1), null);
});

test("shares are whole numbers", () => {
  assert.equal(readShares(" 12 "), 12);
  for (const text of ["", "1.5", "-1", "x", "12345678"]) assert.equal(readShares(text), null);
});

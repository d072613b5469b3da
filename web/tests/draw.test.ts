import assert from "node:assert/strict";
import { test } from "node:test";
import { checkDraw, type Draw } from "../src/draw.ts";

// What super_app/pots/rules.py makes of this salt and these shares.
const COMMITMENT = "um1a6B61ADKq5GVF9Ae0VG3YMfX6xoZmtYJjDYzlxSw";
const DRAW: Draw = {
  giftId: "00112233445566778899aabbccddeeff",
  amount: 1000,
  shares: 3,
  split: "random",
  salt: "c2FsdA",
  drawn: [417, 83, 500],
  claims: [
    { number: 0, amount: 417 },
    { number: 2, amount: 500 },
  ],
};

test("a draw that was sealed at the beginning is honest", async () => {
  assert.equal(await checkDraw(DRAW, COMMITMENT), "honest");
});

test("a draw that was changed afterwards is found out", async () => {
  assert.equal(await checkDraw({ ...DRAW, drawn: [416, 84, 500] }, COMMITMENT), "another_draw");
  assert.equal(await checkDraw({ ...DRAW, salt: "c2FsdB" }, COMMITMENT), "another_draw");
});

test("shares that do not make the gift, or not as promised, are found out", async () => {
  assert.equal(await checkDraw({ ...DRAW, amount: 1001 }, COMMITMENT), "wrong_sum");
  assert.equal(await checkDraw({ ...DRAW, shares: 4 }, COMMITMENT), "wrong_sum");
  assert.equal(await checkDraw({ ...DRAW, split: "equal" }, COMMITMENT), "wrong_sum");
});

test("somebody who got another share than was drawn is found out", async () => {
  assert.equal(await checkDraw({ ...DRAW, claims: [{ number: 1, amount: 84 }] }, COMMITMENT), "wrong_share");
});

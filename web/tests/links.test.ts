import assert from "node:assert/strict";
import { test } from "node:test";
import { linkAmount, matrixLink, paytoLink, readLink, splitHandle } from "../src/links.ts";

test("what we write is what we read", () => {
  for (const payee of ["@bob:other.example", "@bob:127.0.0.1:8448", "@bob=2fx:[::1]:8448"]) {
    assert.deepEqual(readLink(paytoLink(payee)), { payee });
    assert.deepEqual(readLink(matrixLink(payee)), { payee });
    const wanted = { amount: 1250, currency: "EUR", scale: 2, memo: "lunch & tea + 50%" };
    assert.deepEqual(readLink(paytoLink(payee, wanted)), {
      payee,
      currency: "EUR",
      amount: "12.50",
      memo: "lunch & tea + 50%",
    });
  }
});

test("links of others are read too", () => {
  const bob = { payee: "@bob:example.org" };
  assert.deepEqual(readLink(" @bob:example.org "), bob);
  assert.deepEqual(readLink("matrix:u/bob:example.org?action=chat"), bob);
  assert.deepEqual(readLink("https://matrix.to/#/@bob:example.org"), bob);
  assert.deepEqual(readLink("https://matrix.to/#/%40bob%3Aexample.org?via=x"), bob);
  assert.deepEqual(readLink("https://chat.example.org/superapp/@bob:example.org"), bob);
  assert.deepEqual(readLink("https://example.org/superapp/@bob"), bob);
});

test("what names nobody is read as nobody", () => {
  for (const text of [
    "",
    "bob",
    "@bob",
    "https://example.org/",
    "javascript:alert(1)//@bob:example.org",
    "payto://iban/DE75512108001245126199",
    "matrix:r/room:example.org",
    "payto://matrix/%E0%A4%A",
    "matrix:u/bob/evil:example.org",
    "@bob:example.org and more",
  ])
    assert.equal(readLink(text), null, text);
});

test("an amount that is none is left out, and the person stays", () => {
  for (const amount of ["12.50", "EUR:", "EUR:-1", "EUR:1e9", "EUR:1,5", "eur:1"])
    assert.deepEqual(readLink(`payto://matrix/bob:x.org?amount=${amount}`), { payee: "@bob:x.org" }, amount);
});

test("a long note is cut where the homeserver would refuse it", () => {
  const link = readLink(`payto://matrix/bob:x.org?message=${"😀".repeat(600)}`);
  assert.equal([...(link?.memo ?? "")].length, 512);
});

test("an amount becomes minor units only if the asset has them", () => {
  assert.equal(linkAmount("12.50", 2), 1250);
  assert.equal(linkAmount("12.5", 2), 1250);
  assert.equal(linkAmount("12", 0), 12);
  assert.equal(linkAmount("12.50", 1), null);
  assert.equal(linkAmount("0.00", 2), null);
  assert.equal(linkAmount("9007199254740992", 0), null);
});

test("the server of a handle is all after the first colon", () => {
  assert.deepEqual(splitHandle("@bob:127.0.0.1:8448"), { name: "bob", server: "127.0.0.1:8448" });
  assert.deepEqual(splitHandle("bob"), { name: "bob", server: "" });
});

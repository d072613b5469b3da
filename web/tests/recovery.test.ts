import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { canonical, fromBase64, hex, toBase64 } from "../src/recovery/bytes.ts";
import { judge } from "../src/recovery/pins.ts";
import * as protocol from "../src/recovery/protocol.ts";
import { isOf, type KeyDescription, read, spelled } from "../src/recovery/secret-storage.ts";
// @ts-expect-error it is JavaScript, and run by itself too
import { make, open } from "./secret-storage.mjs";

interface Realm {
  realm: string;
  public_key: string;
  ephemeral: string;
  index: number;
  share: string;
  share_public: string;
  unlock_key: string;
  sealed: string;
  element: string;
  proof: string;
  nonce: string;
  tag: string;
}
interface Vectors {
  user_id: string;
  version: number;
  pin: string;
  threshold: number;
  key: string;
  coefficients: string[];
  blind: string;
  attempt_id: string;
  stretched: string;
  input: string;
  blinded: string;
  output: string;
  content_key: string;
  recovery_key: string;
  set: protocol.RecoverySet;
  realms: Realm[];
}

const vectors = JSON.parse(
  readFileSync(new URL("../../docs/recovery-vectors.json", import.meta.url), "utf-8"),
) as Vectors;
const purpose = { userId: vectors.user_id, version: vectors.version };
const names = vectors.realms.map((each) => each.realm);

function bytes(spelling: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(spelling.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function number(spelling: string): bigint {
  return BigInt(`0x${(spelling.match(/../g) ?? []).reverse().join("")}`);
}

// RFC 9497, appendix A.1.2.1 and A.1.2.2.
const PUBLIC = "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e";
const BLIND = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706";
const RFC = [
  {
    input: "00",
    blinded: "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
    element: "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e",
    proof:
      "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd066d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
    output:
      "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7da4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c",
  },
  {
    input: "5a".repeat(17),
    blinded: "cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c",
    element: "60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468",
    proof:
      "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a67154fabf031fd936051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
    output:
      "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6",
  },
];

test("each step of a client gives what RFC 9497 says", () => {
  for (const vector of RFC) {
    const input = bytes(vector.input);
    const blinded = protocol.blind(input, number(BLIND));
    assert.equal(hex(blinded), vector.blinded);
    const evaluation = { element: toBase64(bytes(vector.element)), proof: toBase64(bytes(vector.proof)) };
    const publicKey = toBase64(bytes(PUBLIC));
    assert.ok(protocol.isRight(input, number(BLIND), blinded, publicKey, evaluation));
    // One share at 1 of a threshold of one is the key itself.
    const output = protocol.combined(input, number(BLIND), new Map([[1, evaluation.element]]));
    assert.equal(hex(output), vector.output);
  }
});

test("a realm that answers under another key, or another's answer, is found out", () => {
  const [one, two] = RFC as [(typeof RFC)[0], (typeof RFC)[0]];
  const input = bytes(one.input);
  const blinded = bytes(one.blinded);
  const right = { element: toBase64(bytes(one.element)), proof: toBase64(bytes(one.proof)) };
  const judged = (publicKey: string, evaluation: protocol.Evaluation) =>
    protocol.isRight(input, number(BLIND), blinded, publicKey, evaluation);
  assert.ok(judged(toBase64(bytes(PUBLIC)), right));
  assert.ok(!judged(vectors.set.realms[0]?.public_key ?? "", right));
  assert.ok(!judged(toBase64(bytes(PUBLIC)), { ...right, element: toBase64(bytes(two.element)) }));
  assert.ok(!judged(toBase64(bytes(PUBLIC)), { ...right, proof: toBase64(bytes(two.proof)) }));
  assert.ok(!judged(toBase64(bytes(PUBLIC)), { element: "", proof: "" }));
});

test("a set follows from its random values as in Python", async () => {
  const pin = await protocol.stretched(purpose, vectors.pin);
  assert.equal(hex(pin), vectors.stretched);
  assert.equal(hex(protocol.oprfInput(purpose, pin)), vectors.input);
  const { deals, contentKey } = protocol.deal(
    purpose,
    pin,
    number(vectors.key),
    vectors.coefficients.map(number),
    names,
  );
  assert.equal(hex(contentKey), vectors.content_key);
  for (const [at, each] of vectors.realms.entries()) {
    const deal = deals[at];
    assert.ok(deal !== undefined);
    assert.deepEqual(
      [deal.realm, deal.index, hex(deal.share), hex(deal.sharePublic), hex(deal.unlockKey)],
      [each.realm, each.index, each.share, each.share_public, each.unlock_key],
    );
    const key = bytes(each.public_key);
    const sealed = await protocol.sealed(purpose, deal, vectors.threshold, names, key, bytes(each.ephemeral));
    assert.equal(sealed, each.sealed);
  }
  const { iv, ciphertext, ...header } = vectors.set;
  const locked = await protocol.locked(contentKey, header, bytes(vectors.recovery_key), fromBase64(iv));
  assert.equal(locked.ciphertext, ciphertext);
  assert.equal(header.kdf, protocol.KDF);
});

test("a recovery follows from any three answers as in Python", async () => {
  const input = bytes(vectors.input);
  const factor = number(vectors.blind);
  const blinded = protocol.blind(input, factor);
  assert.equal(hex(blinded), vectors.blinded);
  const answers = vectors.realms.map((each) => ({
    index: each.index,
    element: toBase64(bytes(each.element)),
    proof: toBase64(bytes(each.proof)),
  }));
  for (const [at, each] of answers.entries())
    assert.ok(protocol.isRight(input, factor, blinded, vectors.set.realms[at]?.public_key ?? "", each));
  for (const chosen of [
    [0, 1, 2],
    [4, 2, 0],
    [1, 3, 4],
  ]) {
    const three = new Map(chosen.map((at) => [at + 1, answers[at]?.element ?? ""]));
    const output = protocol.combined(input, factor, three);
    assert.equal(hex(output), vectors.output);
    for (const each of vectors.realms) {
      const tag = protocol.tag(purpose, output, each.realm, vectors.attempt_id, toBase64(bytes(each.nonce)));
      assert.equal(hex(fromBase64(tag)), each.tag);
    }
    const key = await protocol.unlocked(protocol.derived(purpose, output, "key"), vectors.set);
    assert.equal(hex(key ?? new Uint8Array()), vectors.recovery_key);
  }
});

test("a set that was changed does not open", async () => {
  const key = bytes(vectors.content_key);
  assert.equal(hex((await protocol.unlocked(key, vectors.set)) ?? new Uint8Array()), vectors.recovery_key);
  assert.equal(await protocol.unlocked(key, { ...vectors.set, threshold: 2 }), null);
  assert.equal(await protocol.unlocked(key, { ...vectors.set, version: 8 }), null);
  assert.equal(await protocol.unlocked(bytes("00".repeat(32)), vectors.set), null);
});

test("canonical JSON is that of Matrix", () => {
  assert.equal(canonical({ b: [1, { d: "ü", c: null }], a: "x\n" }), '{"a":"x\\n","b":[1,{"c":null,"d":"ü"}]}');
});

// Of the Matrix specification's example of a key: 35 bytes from 0x8B01 on, base58.
test("a recovery key is read as it is spelled, and a mistyped one is not", () => {
  const key = bytes(vectors.recovery_key);
  const shown = spelled(key);
  assert.match(shown, /^(\w{4} ){11}\w{4}$/);
  assert.ok(shown.startsWith("Es"));
  assert.equal(hex(read(`  ${shown.replaceAll(" ", "")} `) ?? new Uint8Array()), vectors.recovery_key);
  const at = 20;
  const other = shown[at] === "a" ? "b" : "a";
  assert.equal(read(shown.slice(0, at) + other + shown.slice(at + 1)), null);
  for (const wrong of ["", "EsT0", "1".repeat(48), shown.slice(0, -1), `${shown}2`, "z".repeat(65)])
    assert.equal(read(wrong), null);
});

test("a key is that of an account by its MAC alone", async () => {
  const { description, key } = await described();
  assert.ok(await isOf(key, description));
  assert.ok(!(await isOf(bytes("01".repeat(32)), description)));
  assert.ok(!(await isOf(key, { ...description, algorithm: "m.other" })));
  assert.ok(!(await isOf(key, {})));
});

/** A description as matrix-js-sdk makes it (``SecretStorage.calculateKeyCheck``), from Node's own cryptography. */
async function described() {
  const { createCipheriv, createHmac, hkdfSync } = await import("node:crypto");
  const key = bytes(vectors.recovery_key);
  const derived = Buffer.from(hkdfSync("sha256", key, Buffer.alloc(32), "", 64));
  const iv = Buffer.from("00112233445566770011223344556677", "hex");
  const zeros = createCipheriv("aes-256-ctr", derived.subarray(0, 32), iv).update(Buffer.alloc(32));
  const mac = createHmac("sha256", derived.subarray(32)).update(zeros).digest("base64");
  return { key, description: { algorithm: "m.secret_storage.v1.aes-hmac-sha2", iv: iv.toString("base64"), mac } };
}

test("PINs that come among the first guesses are not taken, and short ones with a warning", () => {
  for (const pin of ["", "12345", "1234567", "12a456", "12 456", "１２３４５６"])
    assert.equal(judge(pin), "digits", pin);
  for (const pin of [
    "123456",
    "654321",
    "000000",
    "121212",
    "112233",
    "123123",
    "147258",
    "310590",
    "123321",
    "900131",
  ])
    assert.equal(judge(pin), "common", pin);
  for (const pin of ["1234", "0000", "1212", "1990", "2580", "2412", "7667"]) assert.equal(judge(pin), "common", pin);
  assert.equal(judge("4829"), "short");
  for (const pin of ["482915", "730164", "615208"]) assert.equal(judge(pin), "good", pin);
});

test("a key that matrix-js-sdk made is read, checked and spelled as it does", async () => {
  const { data, recoveryKey } = (await make()) as { data: Record<string, KeyDescription>; recoveryKey: string };
  const keyId = (data["m.secret_storage.default_key"] as { key: string }).key;
  const key = read(recoveryKey);
  assert.ok(key !== null);
  assert.equal(spelled(key), recoveryKey);
  assert.ok(await isOf(key, data[`m.secret_storage.key.${keyId}`] ?? {}));
  const { iv: _iv, ciphertext: _ciphertext, ...header } = vectors.set;
  const set = await protocol.locked(bytes(vectors.content_key), header, key);
  const found = await protocol.unlocked(bytes(vectors.content_key), set);
  assert.equal(await open(data, spelled(found ?? new Uint8Array())), "the secret of this account");
});

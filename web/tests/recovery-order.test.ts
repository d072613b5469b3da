// What a page sends when it recovers, and in which order: against a homeserver that is made up, whose realms hold the
// shares of docs/recovery-vectors.json. The PIN is not stretched here.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, test } from "node:test";
import { ristretto255_oprf } from "@noble/curves/ed25519.js";

import { fromBase64, hex, random, toBase64 } from "../src/recovery/bytes.ts";
import { Problem } from "../src/problem.ts";
import * as protocol from "../src/recovery/protocol.ts";

type Json = Record<string, unknown>;

const vectors = JSON.parse(readFileSync(new URL("../../docs/recovery-vectors.json", import.meta.url), "utf-8")) as {
  user_id: string;
  version: number;
  pin: string;
  stretched: string;
  output: string;
  recovery_key: string;
  set: protocol.RecoverySet;
  realms: { realm: string; share: string; share_public: string }[];
};
const purpose = { userId: vectors.user_id, version: vectors.version };
const names = vectors.realms.map((each) => each.realm);
const [own, two, three, four, five] = names as [string, string, string, string, string];

// Where the page came from, which is where it asks.
Object.assign(globalThis, { document: { baseURI: "http://hs1.test/superapp/recover/" } });
const { Recovery, TooFew, WrongPin } = await import("../src/recovery/sets.ts");

function bytes(spelling: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(spelling.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

// Nobody waits here for the limits of what is asked.
const later = globalThis.setTimeout;
Object.assign(globalThis, {
  setTimeout: (then: () => void, ms = 0) => (ms > 1_000 ? later(then, ms).unref() : later(then, ms)),
});

const plain = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = plain;
});

/** A homeserver and what it was asked. ``quick`` realms answer the first question, ``silent`` ones none. */
class Home {
  readonly asked: { what: string; body: Json }[] = [];
  quick = [own, two, three];
  silent: string[] = [];
  lying: string[] = [];
  /** Realms that are busy with another try when they are next ordered. */
  readonly busy = new Set<string>();
  /** Nobody answers these. */
  cut: string[] = [];
  /** What was only begun counts anew. */
  overtaken: string[] = [];
  readonly nonces = new Map(names.map((realm) => [realm, toBase64(random(32))]));

  constructor() {
    globalThis.fetch = async (input) => {
      const request = input as Request;
      const { pathname } = new URL(request.url);
      const what = decodeURIComponent(pathname.replace("/_synapse/client/superapp/v1/recovery/", ""));
      const asked = { what, body: {} as Json };
      this.asked.push(asked);
      const body = (await request.json()) as Json;
      asked.body = body;
      if (this.cut.includes(what.split("/").at(-1) ?? "")) throw new TypeError("cut");
      const answered = this.answer(what, body);
      return answered === null
        ? Response.json({ errcode: "ORG.SUPERAPP.PEER_UNREACHABLE", error: "It is away." }, { status: 502 })
        : Response.json(answered);
    };
  }

  answer(what: string, body: Json): Json | null {
    const [kind, which, action] = what.split("/") as [string, string, string];
    const up = names.filter((realm) => !this.silent.includes(realm));
    const blinded = () => fromBase64(body.blinded as string);
    const all = (realms: string[]) =>
      Object.fromEntries(realms.map((realm) => [realm, this.evaluated(realm, blinded())]));
    if (kind === "realms")
      return this.silent.includes(which) ? null : action === "guess" ? this.evaluated(which, blinded()) : {};
    switch (action) {
      case "begin": {
        const nonces = Object.fromEntries(up.map((realm) => [realm, this.nonces.get(realm)]));
        for (const realm of this.overtaken) this.nonces.set(realm, toBase64(random(32)));
        return { changed: true, nonces };
      }
      case "evaluate":
        return { evaluations: all(this.quick.filter((realm) => up.includes(realm))), nonces: {} };
      case "right":
        return {
          unlocked: Object.keys(body.tags as Json).filter((realm) => !this.busy.delete(realm)),
          evaluations: all((body.others as string[]).filter((realm) => up.includes(realm))),
        };
      default:
        return {};
    }
  }

  evaluated(realm: string, blinded: Uint8Array): Json {
    const { share, share_public } = vectors.realms[names.indexOf(realm)] ?? { share: "", share_public: "" };
    // Scalars of vectors are little-endian, as they travel.
    const found = ristretto255_oprf.voprf.blindEvaluate(bytes(share), bytes(share_public), blinded);
    const element = this.lying.includes(realm) ? blinded : found.evaluated;
    return { element: toBase64(element), proof: toBase64(found.proof), nonce: this.nonces.get(realm), guesses_left: 9 };
  }

  /** What was asked of a kind, in its order. */
  of(action: string): { what: string; body: Json }[] {
    return this.asked.filter((each) => each.what.endsWith(`/${action}`));
  }
}

function page(): InstanceType<typeof Recovery> {
  const stretched = async (_: protocol.Purpose, pin: string) =>
    pin === vectors.pin ? bytes(vectors.stretched) : bytes("00".repeat(32));
  return new Recovery({ token: "a token", renew: async () => false }, vectors.user_id, stretched);
}

function tagFor(home: Home, what: string, realm: string): string {
  const attemptId = what.split("/")[1] ?? "";
  return protocol.tag(purpose, bytes(vectors.output), realm, attemptId, home.nonces.get(realm) ?? "");
}

test("one order with the tags of all realms is sent before the key is there, and nothing is left to do behind it", async () => {
  const home = new Home();
  const { key, others } = await page().recover(vectors.set, vectors.pin);
  assert.equal(hex(key), vectors.recovery_key);
  const order = home.asked.at(-1);
  assert.ok(order !== undefined && order.what.endsWith("/right"));
  assert.deepEqual(await others, { lied: [], silent: [] });
  assert.deepEqual(order.body.tags, Object.fromEntries(names.map((realm) => [realm, tagFor(home, order.what, realm)])));
  assert.deepEqual(order.body.others, [four, five]);
  assert.equal(home.asked.at(-1), order);
});

test("the order is given once more where one's own realm was busy with another try", async () => {
  const home = new Home();
  home.busy.add(own).add(four);
  const { others } = await page().recover(vectors.set, vectors.pin);
  await others;
  const [first, second, ...more] = home.of("right");
  assert.deepEqual(second?.body, first?.body);
  assert.deepEqual(more, []);
});

test("realms that lie and realms that are away are named, whoever is asked first", async () => {
  for (const [lying, away] of [
    [two, five],
    [five, two],
  ] as const) {
    const home = new Home();
    home.lying = [lying];
    home.silent = [away];
    home.quick = [own, two, three, ...(away === two ? [four] : [])];
    const { key, others } = await page().recover(vectors.set, vectors.pin);
    assert.equal(hex(key), vectors.recovery_key);
    assert.deepEqual(await others, { lied: [lying], silent: [away] });
    assert.equal(home.of("right").length, 1);
  }
});

test("a realm whose nonce is another one by then, or came late, gets a tag of its own", async () => {
  for (const cut of [[], ["begin"]]) {
    const home = new Home();
    home.overtaken = [four];
    home.cut = cut;
    const { others } = await page().recover(vectors.set, vectors.pin);
    assert.deepEqual(await others, { lied: [], silent: [] });
    const unlocked = new Map(home.of("unlock").map(({ what, body }) => [what.split("/")[1] ?? "", body]));
    assert.deepEqual([...unlocked.keys()].sort(), cut.length === 0 ? [four] : [four, five]);
    const { what } = home.of("right")[0] ?? { what: "" };
    for (const [realm, body] of unlocked) assert.equal(body.tag, tagFor(home, what, realm));
  }
});

test("an order that gets lost is sent again, and who waits for its end hears if that does not help", async () => {
  const home = new Home();
  home.cut = ["right"];
  const { key, others } = await page().recover(vectors.set, vectors.pin);
  assert.equal(hex(key), vectors.recovery_key);
  await assert.rejects(others, (problem: unknown) => problem instanceof Problem && problem.offline);
  const [one, again] = home.of("right");
  assert.deepEqual([home.of("right").length, one], [2, again]);
});

test("a wrong PIN is said to be wrong, and no realm is shown that it was right", async () => {
  const home = new Home();
  await assert.rejects(
    page().recover(vectors.set, "615208"),
    (thrown) => thrown instanceof WrongPin && thrown.left === 9,
  );
  assert.deepEqual([home.of("wrong").length, home.of("right").length], [1, 0]);
});

test("with too few realms nothing is said to be wrong", async () => {
  const home = new Home();
  home.silent = [three, four, five];
  await assert.rejects(page().recover(vectors.set, vectors.pin), (thrown) => {
    assert.ok(thrown instanceof TooFew);
    assert.deepEqual([...thrown.problems.keys()], home.silent);
    return true;
  });
  assert.deepEqual([home.of("wrong").length, home.of("right").length], [0, 0]);
});

// A person's set of shares: what the account data says of it, setting one up, recovering from it, giving it up.
//
// A set that is being set up stands beside the one in use until the account data names it. So whatever step is the last
// one that happened, the PIN of the set that the account data names works, and setting up can be begun again.

import { type Json, HOMESERVER, matrix, send, type Tokens } from "../api.ts";
import { asProblem, Problem, problemOf } from "../problem.ts";
import { type Bytes, fromBase64, hex, random, toBase64 } from "./bytes.ts";
import * as protocol from "./protocol.ts";
import type { KeyDescription } from "./secret-storage.ts";

const TYPE = "org.superapp.recovery";
/** How far a realm may have seen versions beyond those that the homeserver of the account knows of. */
const MAX_AHEAD = 1000;

export interface Realm {
  server: string;
  operator: string;
  own: boolean;
  leaving: boolean;
  public_key?: string;
}

/** Who can guard shares, and how many of them the operator suggests. */
export interface Offer {
  shares: number;
  threshold: number;
  realms: Realm[];
}

/** The key of somebody's secret storage. */
export interface StorageKey {
  keyId: string;
  description: KeyDescription;
}

interface ShareState {
  version: number;
  state: "pending" | "active" | "spent" | "retired";
}

interface Answered extends protocol.Evaluation {
  nonce: string;
  guesses_left: number;
}

/** Realms that answered with something that does not follow from their share, and those that did not answer. */
export interface Others {
  lied: string[];
  silent: string[];
}

export interface Recovered {
  key: Bytes;
  /** Once all realms have answered and know that the PIN was right.
   *
   * @throws {Problem} one's own homeserver does not answer any more, so that a guess may stay counted.
   */
  others: Promise<Others>;
}

function serverOf(userId: string): string {
  return userId.slice(userId.indexOf(":") + 1);
}

export class WrongPin extends Error {
  readonly left: number;

  constructor(left: number) {
    super("wrong PIN");
    this.left = left;
  }
}

/** Too few realms answered rightly. ``problems`` are those of the others. */
export class TooFew extends Error {
  readonly problems: ReadonlyMap<string, Problem>;
  readonly lied: readonly string[];

  constructor(problems: ReadonlyMap<string, Problem>, lied: readonly string[]) {
    super("too few realms");
    this.problems = problems;
    this.lied = lied;
  }
}

export class Recovery {
  readonly #tokens: Tokens;
  readonly #userId: string;
  readonly #stretched: typeof protocol.stretched;

  constructor(tokens: Tokens, userId: string, stretched = protocol.stretched) {
    this.#tokens = tokens;
    this.#userId = userId;
    this.#stretched = stretched;
  }

  async offer(): Promise<Offer> {
    return (await this.#ours("GET", "recovery/realms")) as unknown as Offer;
  }

  /** The set in use; null if there is none. */
  async stored(): Promise<protocol.RecoverySet | null> {
    const content = await this.#accountData(TYPE);
    return ((content?.set ?? null) as protocol.RecoverySet | null) ?? null;
  }

  /** The key that clients keep their secrets with; null if they have none yet. */
  async storageKey(): Promise<StorageKey | null> {
    const chosen = await this.#accountData("m.secret_storage.default_key");
    if (typeof chosen?.key !== "string") return null;
    const description = await this.#accountData(`m.secret_storage.key.${chosen.key}`);
    return description === null ? null : { keyId: chosen.key, description };
  }

  /** A new set. ``done`` is called with how many of how many steps are behind.
   *
   * @throws {Problem} a realm refused or did not answer; what was in use before still is.
   */
  async setUp(
    wanted: { pin: string; key: Bytes; keyId: string; realms: readonly Realm[]; threshold: number },
    done: (steps: number, of: number) => void,
  ): Promise<protocol.RecoverySet> {
    const { realms, threshold } = wanted;
    const names = realms.map((each) => each.server);
    const of = 2 * realms.length + 4;
    let steps = 0;
    const step = () => done(++steps, of);
    const before = await this.stored();
    const versions = await Promise.all(names.map((realm) => this.#newest(realm)));
    const ours = realms.findIndex((each) => each.own);
    const known = Math.max(before?.version ?? 0, versions[ours] ?? 0);
    // One that lies could else use all the numbers up, so that nobody could set up a PIN any more.
    const far = names[versions.findIndex((each) => each > known + MAX_AHEAD)];
    if (far !== undefined) throw new Problem("REALM", far);
    const purpose = { userId: this.#userId, version: Math.max(known, ...versions) + 1 };
    step();
    const pin = await this.#stretched(purpose, wanted.pin);
    const coefficients = Array.from({ length: threshold - 1 }, () => protocol.scalar());
    const { deals, contentKey } = protocol.deal(purpose, pin, protocol.scalar(), coefficients, names);
    const set = await protocol.locked(
      contentKey,
      {
        version: purpose.version,
        threshold,
        kdf: protocol.KDF,
        key_id: wanted.keyId,
        made_ms: Date.now(),
        realms: deals.map((each, at) => ({
          server: each.realm,
          operator: realms[at]?.operator ?? "",
          public_key: toBase64(each.sharePublic),
        })),
      },
      wanted.key,
    );
    step();
    const given = await Promise.allSettled(
      deals.map(async (each, at) => {
        const realmKey = fromBase64(realms[at]?.public_key ?? "");
        await this.#at(each.realm, "PUT", "share", {
          version: purpose.version,
          sealed: await protocol.sealed(purpose, each, threshold, names, realmKey),
          ...(before === null ? {} : { in_use: before.version }),
        });
        step();
      }),
    );
    // Only now, so that none of them is still under way when it is tried once more.
    for (const each of given) if (each.status === "rejected") throw each.reason;
    // Before anything depends on it: does every realm have what it was given, and does the PIN open it?
    const rehearsed = await this.recover(set, wanted.pin);
    const { lied, silent } = await rehearsed.others;
    const failed = [...lied, ...silent][0];
    if (failed !== undefined) throw new Problem("REALM", failed);
    step();
    await this.#putAccountData({ v: 1, set });
    step();
    // From here on the new set is in use. A realm that does not hear of it now is told when the page is next opened.
    await Promise.allSettled(names.map((realm) => this.#at(realm, "POST", "use", { version: set.version }).then(step)));
    const left = before?.realms.filter((each) => !names.includes(each.server)) ?? [];
    await Promise.allSettled(
      left.map((each) => this.#at(each.server, "POST", "give-up", { version: before?.version })),
    );
    return set;
  }

  /** What an earlier visit may have left undone. It is no matter if it fails. */
  async finish(set: protocol.RecoverySet): Promise<void> {
    await Promise.allSettled(
      set.realms.map(async ({ server }) => {
        const shares = await this.#shares(server);
        const late = shares.some((each) => each.version < set.version && ["pending", "active"].includes(each.state));
        const pending = shares.some((each) => each.version === set.version && each.state === "pending");
        if (late || pending) await this.#at(server, "POST", "use", { version: set.version });
      }),
    );
  }

  /** The recovery key, as soon as enough realms have answered.
   *
   * @throws {WrongPin | TooFew} and what it took is counted.
   */
  async recover(set: protocol.RecoverySet, typed: string): Promise<Recovered> {
    if (set.kdf !== protocol.KDF) throw new Problem("KDF", set.kdf);
    const purpose = { userId: this.#userId, version: set.version };
    const attemptId = hex(random(16));
    // While the PIN is being stretched the realms count the guess. One that does not now does it when it is asked.
    const realms = set.realms.map((each) => each.server);
    // Their nonces come with that, so that all of them can be unlocked as soon as the key is there.
    const begun = new Map<string, string>();
    void this.#ours("POST", `recovery/attempts/${attemptId}/begin`, { version: set.version, realms })
      .then(({ nonces }) => keep(begun, nonces))
      .catch(() => null);
    const input = protocol.oprfInput(purpose, await this.#stretched(purpose, typed));
    const factor = protocol.scalar();
    const blinded = protocol.blind(input, factor);
    const elements = new Map<number, string>();
    const nonces = new Map<string, string>();
    const problems = new Map<string, Problem>();
    const lied: string[] = [];
    let left = Number.POSITIVE_INFINITY;

    const take = (realm: protocol.RealmOfSet, index: number, answered: Answered) => {
      if (!protocol.isRight(input, factor, blinded, realm.public_key, answered)) {
        lied.push(realm.server);
        return;
      }
      left = Math.min(left, answered.guesses_left);
      nonces.set(realm.server, answered.nonce);
      elements.set(index, answered.element);
    };
    const guess = { version: set.version, blinded: toBase64(blinded) };
    const ask = async (realm: protocol.RealmOfSet, index: number) => {
      try {
        const answered = await this.#at(realm.server, "POST", "guess", { ...guess, attempt_id: attemptId });
        take(realm, index, answered as unknown as Answered);
      } catch (thrown) {
        problems.set(realm.server, asProblem(thrown));
      }
    };
    const open = async (by: ReadonlyMap<number, string>) => {
      if (by.size < set.threshold) return null;
      const output = protocol.combined(input, factor, new Map([...by].slice(0, set.threshold)));
      const key = await protocol.unlocked(protocol.derived(purpose, output, "key"), set);
      return key === null ? null : { output, key };
    };
    // As many realms as it takes, in one round trip. If the ciphertext opens, all that they said was right: proofs are
    // looked at behind that, and the others are asked then.
    const first = await this.#evaluated(attemptId, { ...guess, realms, enough: set.threshold }, begun);
    const tried = new Map(
      set.realms.flatMap(({ server }, at): [number, string][] => {
        const answered = first.get(server);
        return answered === undefined ? [] : [[at + 1, answered.element]];
      }),
    );
    const check = () => {
      for (const [at, realm] of set.realms.entries()) {
        const answered = first.get(realm.server);
        if (answered !== undefined) take(realm, at + 1, answered);
      }
    };
    let found = await open(tried).catch(() => null);
    const isQuick = found !== null;
    if (!isQuick) {
      check();
      if (elements.size < set.threshold) {
        const asked = set.realms.map((realm, at) => (first.has(realm.server) ? null : ask(realm, at + 1)));
        await Promise.race([
          Promise.all(asked),
          new Promise<void>((resolve) => {
            for (const each of asked) void each?.then(() => elements.size >= set.threshold && resolve());
          }),
        ]);
        if (elements.size < set.threshold) throw new TooFew(problems, lied);
      }
      found = await open(elements);
    }
    if (found === null) {
      await this.#ours("POST", `recovery/attempts/${attemptId}/wrong`, {}).catch(() => undefined);
      throw new WrongPin(left);
    }
    const { key, output } = found;
    const used = new Map<string, string>();
    const tagFor = (realm: string, nonce: string): [string, string][] => {
      try {
        used.set(realm, nonce);
        return [[realm, protocol.tag(purpose, output, realm, attemptId, nonce)]];
      } catch {
        // A realm whose nonce is none remembers a guess too many, and that is its own.
        return [];
      }
    };
    const tags = Object.fromEntries(
      realms.flatMap((realm) => {
        const nonce = nonces.get(realm) ?? first.get(realm)?.nonce ?? begun.get(realm);
        return nonce === undefined ? [] : tagFor(realm, nonce);
      }),
    );
    const heard = new Set([...first.keys(), ...nonces.keys(), ...lied, ...problems.keys()]);
    const others = realms.filter((realm) => !heard.has(realm));
    // One order, and it is on its way before anybody sees the key: the page may be closed at once, and neither does a
    // guess stay counted nor is anybody told of a wrong PIN.
    const shown = () => this.#ours("POST", `recovery/attempts/${attemptId}/right`, { ...guess, tags, others });
    const ordered = shown().catch(shown);
    const rest = async (): Promise<Others> => {
      // Whoever waits for the key comes first.
      const checked = new Promise((resolve) => setTimeout(resolve)).then(() => isQuick && check());
      const [done] = await Promise.all([ordered, checked]);
      // What one's own realm has not heard, because it was busy with another try, would be told as a wrong PIN.
      if (!(done.unlocked as string[]).includes(serverOf(this.#userId))) await shown().catch(() => null);
      const evaluations = done.evaluations as Record<string, Answered>;
      for (const [at, realm] of set.realms.entries()) {
        const answered = others.includes(realm.server) ? evaluations[realm.server] : undefined;
        if (answered !== undefined) take(realm, at + 1, answered);
      }
      // Those whose nonce came only with that, or is another one since a second device has recovered meanwhile.
      const late = [...nonces].filter(([realm, nonce]) => used.get(realm) !== nonce);
      await Promise.allSettled(
        late
          .flatMap(([realm, nonce]) => tagFor(realm, nonce))
          .map(([realm, tag]) =>
            this.#at(realm, "POST", "unlock", { version: set.version, attempt_id: attemptId, tag }),
          ),
      );
      return {
        lied: [...new Set(lied)],
        silent: realms.filter((realm) => !nonces.has(realm) && !lied.includes(realm)),
      };
    };
    return { key, others: rest() };
  }

  /** No PIN any more: nothing of it is left, at whatever realm answers. */
  async giveUp(set: protocol.RecoverySet): Promise<void> {
    await this.#putAccountData({ v: 1 });
    await Promise.allSettled(
      set.realms.map((each) => this.#at(each.server, "POST", "give-up", { version: set.version })),
    );
  }

  /** What realms say in one round trip, by realm; nothing if that fails, since each can be asked by itself. */
  async #evaluated(attemptId: string, body: Json, begun: Map<string, string>): Promise<ReadonlyMap<string, Answered>> {
    try {
      const { evaluations, nonces } = await this.#ours("POST", `recovery/attempts/${attemptId}/evaluate`, body);
      keep(begun, nonces);
      return new Map(Object.entries(evaluations as Record<string, Answered>));
    } catch {
      return new Map();
    }
  }

  async #shares(realm: string): Promise<ShareState[]> {
    return ((await this.#at(realm, "GET", "state")) as unknown as { shares: ShareState[] }).shares;
  }

  async #newest(realm: string): Promise<number> {
    return Math.max(0, ...(await this.#shares(realm)).map((each) => each.version));
  }

  #at(realm: string, method: string, what: string, body?: Json): Promise<Json> {
    return this.#ours(method, `recovery/realms/${encodeURIComponent(realm)}/${what}`, body);
  }

  async #ours(method: string, path: string, body?: Json): Promise<Json> {
    const request = new Request(`${HOMESERVER}_synapse/client/superapp/v1/${path}`, {
      method,
      cache: "no-store",
      credentials: "omit",
      // What was begun is carried out though the page is closed, as far as it can be.
      keepalive: method === "POST",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    try {
      const response = await send(this.#tokens, request);
      const content = (await response.json()) as Json;
      if (!response.ok) throw problemOf(response.status, content);
      return content;
    } catch (thrown) {
      throw thrown instanceof SyntaxError ? problemOf(502, null) : asProblem(thrown);
    }
  }

  async #accountData(type: string): Promise<Json | null> {
    try {
      return await matrix(this.#tokens, "GET", this.#place(type));
    } catch (thrown) {
      if (thrown instanceof Problem && thrown.status === 404) return null;
      throw thrown;
    }
  }

  async #putAccountData(content: Json): Promise<void> {
    await matrix(this.#tokens, "PUT", this.#place(TYPE), content);
  }

  #place(type: string): string {
    return `v3/user/${encodeURIComponent(this.#userId)}/account_data/${encodeURIComponent(type)}`;
  }
}

function keep(begun: Map<string, string>, nonces: unknown): void {
  for (const [realm, nonce] of Object.entries((nonces ?? {}) as Record<string, string>)) begun.set(realm, nonce);
}

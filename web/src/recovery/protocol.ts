// The cryptography of docs/recovery.md, against the vectors of docs/recovery-vectors.json: RFC 9497's VOPRF over
// ristretto255 with its key in shares (TOPPSS), HPKE for the way of a share, argon2id for the PIN.
//
// Pure but for randomness, which is an argument where a test must know it.

import { ristretto255, ristretto255_hasher, ristretto255_oprf, x25519 } from "@noble/curves/ed25519.js";
import { argon2idAsync } from "@noble/hashes/argon2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { type Bytes, canonical, framed, fromBase64, joined, number16, random, text, toBase64 } from "./bytes.ts";

const LABEL = text("org.superapp.recovery.v1");
const CONTEXT = "OPRFV1-\x01-ristretto255-SHA512";
const { Point } = ristretto255;
const { Fn } = Point;

/** How a PIN is stretched; a set names it. */
export const KDF = "argon2id-v19-3-32768-1";

/** To what everything is bound. */
export interface Purpose {
  userId: string;
  version: number;
}

export interface RealmOfSet {
  server: string;
  operator: string;
  /** Of its share: what its proofs are checked with. */
  public_key: string;
}

/** What the account data says of a set, besides the ciphertext. */
export interface Header {
  version: number;
  threshold: number;
  kdf: string;
  key_id: string;
  made_ms: number;
  realms: RealmOfSet[];
}

export interface RecoverySet extends Header {
  iv: string;
  ciphertext: string;
}

/** A realm's answer to a guess. */
export interface Evaluation {
  element: string;
  proof: string;
}

function bound(label: string, purpose: Purpose): Bytes {
  return framed(LABEL, text(label), text(purpose.userId), text(String(purpose.version)));
}

/** What a hash is called among the measures of the browser (User Timing). */
export const HASH_MEASURE = "org.superapp.recovery.hash";

/** The PIN, made dear. It takes a second or so. */
export async function stretched(purpose: Purpose, pin: string): Promise<Bytes> {
  const start = performance.now();
  const salt = sha256(bound("pin", purpose)).slice(0, 16);
  const found = await argon2idAsync(text(pin), salt, { t: 3, m: 32 * 1024, p: 1, dkLen: 32, version: 0x13 });
  performance.measure(HASH_MEASURE, { start });
  return new Uint8Array(found);
}

export function oprfInput(purpose: Purpose, pin: Uint8Array): Bytes {
  return joined(bound("input", purpose), framed(pin));
}

/** A key of 32 bytes from the output of the OPRF. */
export function derived(purpose: Purpose, output: Uint8Array, label: "key" | "unlock", realm = ""): Bytes {
  const info = joined(bound(label, purpose), framed(text(realm)));
  return new Uint8Array(hkdf(sha512, output, undefined, info, 32));
}

export function scalar(wide = random(64)): bigint {
  const found = Fn.create(
    BigInt(
      `0x${[...wide]
        .reverse()
        .map((each) => each.toString(16).padStart(2, "0"))
        .join("")}`,
    ),
  );
  return found === 0n ? scalar() : found;
}

function elementOf(input: Uint8Array) {
  return ristretto255_hasher.hashToCurve(input, { DST: `HashToGroup-${CONTEXT}` });
}

export function blind(input: Uint8Array, factor: bigint): Bytes {
  return new Uint8Array(elementOf(input).multiply(factor).toBytes());
}

/** Whether a realm used the share that it was given. Whoever answers wrongly is found out here. */
export function isRight(
  input: Uint8Array,
  factor: bigint,
  blinded: Uint8Array,
  publicKey: string,
  evaluation: Evaluation,
): boolean {
  try {
    ristretto255_oprf.voprf.finalize(
      input,
      Fn.toBytes(factor),
      fromBase64(evaluation.element),
      blinded,
      fromBase64(publicKey),
      fromBase64(evaluation.proof),
    );
    return true;
  } catch {
    return false;
  }
}

/** The weights at 0 of values at ``indexes``, times their common denominator, so that they are small. */
function lagrange(indexes: readonly number[]): { weights: Map<number, bigint>; denominator: bigint } {
  const denominators = new Map(
    indexes.map((index) => [index, product(indexes.filter((other) => other !== index).map((other) => other - index))]),
  );
  const denominator = product([...denominators.values()].map(Number));
  const weights = new Map<number, bigint>();
  for (const [index, own] of denominators)
    weights.set(index, (product(indexes.filter((other) => other !== index)) * denominator) / own);
  return { weights, denominator };
}

function product(numbers: readonly number[]): bigint {
  return numbers.reduce((found, each) => found * BigInt(each), 1n);
}

/** The output of the OPRF, from right answers of exactly as many realms as the threshold, by index. */
export function combined(input: Uint8Array, factor: bigint, elements: ReadonlyMap<number, string>): Bytes {
  const { weights, denominator } = lagrange([...elements.keys()]);
  let sum = Point.ZERO;
  for (const [index, element] of elements) {
    // Elements and weights are known to everybody, so this need not take the same time whatever they are.
    const weight = weights.get(index) ?? 0n;
    const part = Point.fromBytes(fromBase64(element)).multiplyUnsafe(weight < 0n ? -weight : weight);
    sum = sum.add(weight < 0n ? part.negate() : part);
  }
  return output(input, new Uint8Array(sum.multiply(Fn.inv(Fn.mul(factor, Fn.create(denominator)))).toBytes()));
}

function output(input: Uint8Array, unblinded: Uint8Array): Bytes {
  return new Uint8Array(sha512(joined(framed(input), framed(unblinded), text("Finalize"))));
}

/** What is sealed for one realm. Secret. */
export interface Deal {
  realm: string;
  index: number;
  share: Bytes;
  sharePublic: Bytes;
  unlockKey: Bytes;
}

/** Shares of a key for realms in their order. ``coefficients`` are random, one less than the threshold of them. */
export function deal(
  purpose: Purpose,
  pin: Uint8Array,
  key: bigint,
  coefficients: readonly bigint[],
  realms: readonly string[],
): { deals: Deal[]; contentKey: Bytes } {
  const input = oprfInput(purpose, pin);
  const found = output(input, new Uint8Array(elementOf(input).multiply(key).toBytes()));
  const deals = realms.map((realm, at): Deal => {
    const index = at + 1;
    let value = 0n;
    for (const coefficient of [key, ...coefficients].reverse())
      value = Fn.add(Fn.mul(value, BigInt(index)), coefficient);
    return {
      realm,
      index,
      share: new Uint8Array(Fn.toBytes(value)),
      sharePublic: new Uint8Array(Point.BASE.multiply(value).toBytes()),
      unlockKey: derived(purpose, found, "unlock", realm),
    };
  });
  return { deals, contentKey: derived(purpose, found, "key") };
}

/** A share, sealed for the realm's key; nobody on the way can read it. */
export async function sealed(
  purpose: Purpose,
  each: Deal,
  threshold: number,
  realms: readonly string[],
  realmKey: Uint8Array,
  ephemeral = random(32),
): Promise<string> {
  const content = {
    v: 1,
    user_id: purpose.userId,
    version: purpose.version,
    realm: each.realm,
    index: each.index,
    threshold,
    realms,
    share: toBase64(each.share),
    unlock_key: toBase64(each.unlockKey),
  };
  const info = framed(LABEL, text("share"), text(each.realm), text(purpose.userId), text(String(purpose.version)));
  return toBase64(await hpkeSeal(realmKey, info, text(canonical(content)), ephemeral));
}

/** What shows a realm that the PIN was right, for one guess. */
export function tag(purpose: Purpose, found: Uint8Array, realm: string, attemptId: string, nonce: string): string {
  const key = derived(purpose, found, "unlock", realm);
  const said = framed(
    LABEL,
    text("unlock"),
    text(realm),
    text(purpose.userId),
    text(String(purpose.version)),
    text(attemptId),
    fromBase64(nonce),
  );
  return toBase64(hmac(sha256, key, said));
}

async function contentCipher(contentKey: Bytes): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", contentKey, "AES-GCM", false, ["encrypt", "decrypt"]);
}

/** The recovery key for the account data, bound to all that the set says of itself. */
export async function locked(
  contentKey: Bytes,
  header: Header,
  recoveryKey: Bytes,
  iv = random(12),
): Promise<RecoverySet> {
  const cipher = await contentCipher(contentKey);
  const algorithm = { name: "AES-GCM", iv, additionalData: text(canonical(header)) };
  const ciphertext = new Uint8Array(await crypto.subtle.encrypt(algorithm, cipher, recoveryKey));
  return { ...header, iv: toBase64(iv), ciphertext: toBase64(ciphertext) };
}

/** Null if the PIN was wrong, or the set was changed since. */
export async function unlocked(contentKey: Bytes, set: RecoverySet): Promise<Bytes | null> {
  const { iv, ciphertext, ...header } = set;
  const algorithm = { name: "AES-GCM", iv: fromBase64(iv), additionalData: text(canonical(header)) };
  try {
    const cipher = await contentCipher(contentKey);
    return new Uint8Array(await crypto.subtle.decrypt(algorithm, cipher, fromBase64(ciphertext)));
  } catch {
    return null;
  }
}

// HPKE (RFC 9180), base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

const KEM = joined(text("KEM"), number16(0x0020));
const SUITE = joined(text("HPKE"), number16(0x0020), number16(0x0001), number16(0x0002));

export async function hpkeSeal(
  publicKey: Uint8Array,
  info: Uint8Array,
  plaintext: Bytes,
  ephemeral: Uint8Array,
): Promise<Bytes> {
  const sent = x25519.getPublicKey(ephemeral);
  const secret = extract(KEM, new Uint8Array(), "eae_prk", x25519.getSharedSecret(ephemeral, publicKey));
  const shared = expand(KEM, secret, "shared_secret", joined(sent, publicKey), 32);
  const none = new Uint8Array();
  const context = joined(
    new Uint8Array([0]),
    extract(SUITE, none, "psk_id_hash", none),
    extract(SUITE, none, "info_hash", info),
  );
  const scheduled = extract(SUITE, shared, "secret", none);
  const cipher = await contentCipher(expand(SUITE, scheduled, "key", context, 32));
  const iv = expand(SUITE, scheduled, "base_nonce", context, 12);
  const ciphertext = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, cipher, plaintext));
  return joined(sent, ciphertext);
}

function extract(suite: Bytes, salt: Uint8Array, label: string, ikm: Uint8Array): Bytes {
  const key = salt.length === 0 ? new Uint8Array(32) : salt;
  return new Uint8Array(hmac(sha256, key, joined(text("HPKE-v1"), suite, text(label), ikm)));
}

/** At most one block of SHA-256 is asked for. */
function expand(suite: Bytes, secret: Uint8Array, label: string, info: Uint8Array, size: number): Bytes {
  const labeled = joined(number16(size), text("HPKE-v1"), suite, text(label), info, new Uint8Array([1]));
  return new Uint8Array(hmac(sha256, secret, labeled).slice(0, size));
}

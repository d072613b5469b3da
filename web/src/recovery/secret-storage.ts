// The recovery key of Matrix clients: its spelling for people, and whether it is that of an account (Matrix
// specification, "Secret storage" and "Deriving keys from secrets"; the key representation is in its appendices).

import { type Bytes, fromBase64, joined, same } from "./bytes.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PREFIX = [0x8b, 0x01];
const SIZE = 32;
export const ALGORITHM = "m.secret_storage.v1.aes-hmac-sha2";

/** What the account data of a key says (``m.secret_storage.key.…``). */
export interface KeyDescription {
  algorithm?: string;
  iv?: string;
  mac?: string;
}

/** As Element shows it: base58 in groups of four. */
export function spelled(key: Uint8Array): string {
  const bytes = joined(new Uint8Array(PREFIX), key);
  const whole = joined(bytes, new Uint8Array([bytes.reduce((parity, byte) => parity ^ byte, 0)]));
  let number = 0n;
  for (const byte of whole) number = number * 256n + BigInt(byte);
  let digits = "";
  for (; number > 0n; number /= 58n) digits = ALPHABET.charAt(Number(number % 58n)) + digits;
  return digits.replace(/(.{4})(?=.)/g, "$1 ");
}

/** The 32 bytes; null if it is mistyped. */
export function read(typed: string): Bytes | null {
  const digits = typed.replace(/\s/g, "");
  if (digits.length > 64) return null;
  let number = 0n;
  for (const digit of digits) {
    const value = ALPHABET.indexOf(digit);
    if (value < 0) return null;
    number = number * 58n + BigInt(value);
  }
  const size = PREFIX.length + SIZE + 1;
  const bytes = new Uint8Array(size);
  for (let at = size - 1; at >= 0; at--) {
    bytes[at] = Number(number & 255n);
    number >>= 8n;
  }
  const parity = bytes.reduce((found, byte) => found ^ byte, 0);
  if (number !== 0n || parity !== 0 || PREFIX.some((byte, at) => bytes[at] !== byte)) return null;
  return bytes.slice(PREFIX.length, PREFIX.length + SIZE);
}

/** Whether a key is the one that is described: 32 zeros, encrypted with it, have the described MAC. */
export async function isOf(key: Bytes, description: KeyDescription): Promise<boolean> {
  if (description.algorithm !== ALGORITHM || description.iv === undefined || description.mac === undefined)
    return false;
  const secret = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveBits"]);
  const bits = new Uint8Array(
    await crypto.subtle.deriveBits(
      { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: new Uint8Array() },
      secret,
      512,
    ),
  );
  const cipher = await crypto.subtle.importKey("raw", bits.slice(0, 32), "AES-CTR", false, ["encrypt"]);
  const mac = await crypto.subtle.importKey("raw", bits.slice(32), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const algorithm = { name: "AES-CTR", counter: fromBase64(description.iv), length: 64 };
  const zeros = await crypto.subtle.encrypt(algorithm, cipher, new Uint8Array(32));
  return same(new Uint8Array(await crypto.subtle.sign("HMAC", mac, zeros)), fromBase64(description.mac));
}

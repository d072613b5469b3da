// Bytes and their spellings.

export type Bytes = Uint8Array<ArrayBuffer>;

export function text(value: string): Bytes {
  return new TextEncoder().encode(value) as Bytes;
}

export function joined(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Parts that cannot be mistaken for other ones: two bytes of length before each. */
export function framed(...parts: Uint8Array[]): Bytes {
  return joined(...parts.flatMap((part) => [number16(part.length), part]));
}

export function number16(value: number): Bytes {
  return new Uint8Array([value >> 8, value & 255]);
}

export function random(size: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(size));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Unpadded base64url. */
export function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}

/** Of either alphabet, padded or not.
 *
 * @throws {Error} it is no base64.
 */
export function fromBase64(spelled: string): Bytes {
  const plain = atob(spelled.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, ""));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

export function same(one: Uint8Array, other: Uint8Array): boolean {
  let difference = one.length ^ other.length;
  for (let at = 0; at < Math.min(one.length, other.length); at++) difference |= (one[at] ?? 0) ^ (other[at] ?? 0);
  return difference === 0;
}

/** Canonical JSON of Matrix: sorted keys, no spaces. Keys here are ASCII. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, each]) => `${JSON.stringify(name)}:${canonical(each)}`);
    return `{${entries.join(",")}}`;
  }
  return JSON.stringify(value);
}

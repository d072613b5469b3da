// What QR codes and links say, and what they are read as. Pure: text in, value out.

import { decimal, LARGEST } from "./money.ts";

/** Whom a link means, and what it proposes to pay. Amounts are text as in the link: "EUR:12.50". */
export interface PayLink {
  payee: string;
  currency?: string;
  amount?: string;
  memo?: string;
}

// Printable ASCII, as every address of Matrix: nothing that cannot be seen, and nothing that turns the writing around.
// Neither of the two characters that end the path of a link.
const PERSON = /^@[!"$-9;->@-~]+:[A-Za-z0-9.:[\]-]+$/;
const PERSON_MAX = 255;

/** A payto link (RFC 8905), with "matrix" as the kind of account. */
export function paytoLink(
  payee: string,
  wanted?: { amount: number; currency: string; scale: number; memo?: string },
): string {
  const path = encodeURIComponent(bare(payee));
  if (wanted === undefined) return `payto://matrix/${path}`;
  const query = new URLSearchParams({ amount: `${wanted.currency}:${decimal(wanted.amount, wanted.scale)}` });
  if (wanted.memo !== undefined && wanted.memo !== "") query.set("message", wanted.memo);
  return `payto://matrix/${path}?${query.toString().replaceAll("+", "%20")}`;
}

/** A link to a person (Matrix specification, "matrix: URI scheme"). */
export function matrixLink(userId: string): string {
  return `matrix:u/${encodeURIComponent(bare(userId)).replaceAll("%3A", ":")}`;
}

/** Without the sign before it, which links leave out; but a second one would be read as the first. */
function bare(person: string): string {
  return person.replace(/^@(?!@)/, "");
}

/** What somebody scanned, pasted or opened; null if it names nobody. */
export function readLink(text: string): PayLink | null {
  const trimmed = text.trim();
  if (isPerson(trimmed)) return { payee: trimmed };
  let url: URL;
  try {
    url = new URL(trimmed);
  } catch {
    return null;
  }
  try {
    if (url.protocol === "payto:") return readPayto(trimmed);
    if (url.protocol === "matrix:") return person(/^matrix:u(?:ser)?\/([^/?#]+)(?:[?#]|$)/i.exec(trimmed)?.[1]);
    if (url.protocol === "https:" || url.protocol === "http:") {
      const matrixTo = url.hostname === "matrix.to" ? /^#\/([^?]+)/.exec(url.hash)?.[1] : undefined;
      return person(matrixTo ?? /\/superapp\/(@[^/]+)\/?$/.exec(url.pathname)?.[1], url.host);
    }
  } catch {
    // A broken percent sign.
  }
  return null;
}

function person(name: string | undefined, server?: string): PayLink | null {
  if (name === undefined) return null;
  const decoded = decodeURIComponent(name).replace(/^@?/, "@");
  const full = decoded.includes(":") || server === undefined ? decoded : `${decoded}:${server}`;
  return isPerson(full) ? { payee: full } : null;
}

function isPerson(text: string): boolean {
  return text.length <= PERSON_MAX && PERSON.test(text);
}

function readPayto(text: string): PayLink | null {
  const match = /^payto:\/\/matrix\/([^/?#]+)(?:\?([^#]*))?(?:#|$)/i.exec(text);
  const link = person(match?.[1]);
  if (link === null) return null;
  const query = new URLSearchParams(match?.[2] ?? "");
  const amount = /^([A-Z][A-Z0-9]{2,11}):([0-9]{1,16}(?:\.[0-9]{1,8})?)$/.exec(query.get("amount") ?? "");
  if (amount?.[1] !== undefined && amount[2] !== undefined) {
    link.currency = amount[1];
    link.amount = amount[2];
  }
  const memo = query.get("message");
  if (memo !== null && memo !== "") link.memo = [...memo].slice(0, 512).join("");
  return link;
}

/** The amount of a link in the smallest unit; null if the asset has no such unit. */
export function linkAmount(text: string, scale: number): number | null {
  const [whole = "", fraction = ""] = text.split(".");
  if (fraction.length > scale) return null;
  const amount = Number(whole + fraction.padEnd(scale, "0"));
  return amount >= 1 && amount <= LARGEST ? amount : null;
}

/** The name before the colon and the server after it. */
export function splitHandle(handle: string): { name: string; server: string } {
  const colon = handle.indexOf(":");
  return colon < 0
    ? { name: handle.replace(/^@/, ""), server: "" }
    : { name: handle.slice(0, colon).replace(/^@/, ""), server: handle.slice(colon + 1) };
}

/** The link into a call in what somebody pasted: its code, or the address of a page that it is in. */
export function linkIn(pasted: string): string | null {
  return /[0-9a-f]{32}@[^\s/?#]+/.exec(decodedOr(pasted))?.[0] ?? null;
}

function decodedOr(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

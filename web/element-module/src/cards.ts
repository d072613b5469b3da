// What a card in the timeline says, read from an event. Pure.
//
// An event is the word of its sender, and a module of Element has no session of its own to ask the homeserver with. So a
// card shows what its sender says and leads to the wallet, which asks; nothing in an event makes a badge (badges.ts).

import type { Money } from "../../src/money.ts";
import { to } from "../../src/address.ts";

/** As much of an event as a card is made of; ``MatrixEvent`` of the module API has it. */
export interface CardEvent {
  type: string;
  sender: string;
  content: Record<string, unknown>;
  stateKey?: string;
}

export interface Card {
  kind: "payment" | "request" | "contact" | "call";
  money: (Money & { scale: number | null }) | null;
  /** Who pays, who asks, or whose card it is. */
  from: string;
  to: readonly string[];
  memo: string | null;
  state: string | null;
  /** What the homeserver has written for everybody, where there are no terms to show. */
  lines: readonly string[];
  /** The screen of the wallet that knows more. */
  address: string;
}

export const CARD_KEY = "org.superapp.card";
const PAYMENT = "org.superapp.payment";
const REQUEST = "org.superapp.payment.request";
const CONTACT = "org.superapp.contact";
const ID = /^[0-9a-f]{32}$/;
// Printable ASCII alone: nothing in an address can look like a badge.
const USER_ID = /^@[!-9;-~]{1,200}:[A-Za-z0-9.:[\]-]{1,230}$/;
const MEMO_MAX = 512;

/** A card that a homeserver has sent for somebody, or a shared contact; null for everything else. */
export function readCard(event: CardEvent): Card | null {
  if (event.stateKey !== undefined) return null;
  if (event.type === CONTACT) return readContact(event.content);
  const key = event.content[CARD_KEY];
  if (event.type !== "m.room.message" || !isObject(key) || key.v !== 1) return null;
  const lines = typeof event.content.body === "string" ? event.content.body.split("\n").slice(0, 4) : [];
  const terms = { money: moneyOf(key), memo: memoOf(key.memo), state: textOf(key.state), lines };
  switch (key.kind) {
    case "payment": {
      const { payment_id, payer } = key;
      // A payment is the payer's own: what somebody else says of it is not shown as one.
      if (!isId(payment_id) || payer !== event.sender) return null;
      const payee = isUser(key.payee) ? [key.payee] : [];
      return { kind: "payment", from: payer, to: payee, ...terms, address: to("payment", payment_id, { payer }) };
    }
    case "request": {
      const { request_id, requester } = key;
      if (typeof request_id !== "string" || requester !== event.sender) return null;
      const payers = Array.isArray(key.payers) ? key.payers.filter(isUser) : [];
      return {
        kind: "request",
        from: requester,
        to: payers,
        ...terms,
        address: to("asked", request_id, { requester }),
      };
    }
    case "call":
      if (key.caller !== event.sender) return null;
      return { kind: "call", from: event.sender, to: [], ...terms, address: to("calls") };
    default:
      return null;
  }
}

/** An order or a request itself, for homeservers that send no cards. */
export function readEvent(event: CardEvent): Card | null {
  if (event.stateKey !== undefined) return null;
  const { content, sender } = event;
  const terms = { money: moneyOf(content), memo: memoOf(content.memo), state: null, lines: [] };
  if (event.type === PAYMENT && isId(content.payment_id)) {
    const payee = typeof content.payee === "string" && isUser(content.payee) ? [content.payee] : [];
    const address = to("payment", content.payment_id, { payer: sender });
    return { kind: "payment", from: sender, to: payee, ...terms, address };
  }
  if (event.type === REQUEST && typeof content.request_id === "string") {
    const payers = Array.isArray(content.from) ? content.from.filter(isUser) : [];
    const address = to("asked", content.request_id, { requester: sender });
    return { kind: "request", from: sender, to: payers, ...terms, address };
  }
  return null;
}

function readContact(content: Record<string, unknown>): Card | null {
  const { record } = content;
  if (!isObject(record) || !isUser(record.handle)) return null;
  const { handle } = record;
  return {
    kind: "contact",
    from: handle,
    to: [],
    money: null,
    memo: null,
    state: null,
    lines: [],
    address: to("person", handle),
  };
}

function moneyOf(found: Record<string, unknown>): Card["money"] {
  const { amount, currency, scale } = found;
  if (typeof amount !== "number" || !Number.isSafeInteger(amount) || amount < 0) return null;
  if (typeof currency !== "string" || !/^[A-Z0-9]{1,16}$/.test(currency)) return null;
  const known = typeof scale === "number" && Number.isInteger(scale) && scale >= 0 && scale <= 18;
  return { amount, currency, scale: known ? scale : null };
}

function memoOf(found: unknown): string | null {
  return typeof found === "string" && found.trim() !== "" ? found.slice(0, MEMO_MAX) : null;
}

function textOf(found: unknown): string | null {
  return typeof found === "string" ? found : null;
}

function isId(found: unknown): found is string {
  return typeof found === "string" && ID.test(found);
}

export function isUser(found: unknown): found is string {
  return typeof found === "string" && USER_ID.test(found);
}

function isObject(found: unknown): found is Record<string, unknown> {
  return typeof found === "object" && found !== null && !Array.isArray(found);
}

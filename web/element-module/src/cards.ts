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
const ID = /^[0-9a-f]{32}$/;
// Printable ASCII alone: nothing in an address can look like a badge.
const USER_ID = /^@[!-9;-~]{1,200}:[A-Za-z0-9.:[\]-]{1,230}$/;
const MEMO_MAX = 512;

/**
 * A card that a homeserver has sent for somebody; null for everything else. Also for the edits of one, which Element
 * would draw beside what they change.
 */
export function readCard(event: CardEvent): Card | null {
  if (event.stateKey !== undefined || isEdit(event.content)) return null;
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
    case "contact": {
      const { handle, sharer } = key;
      if (sharer !== event.sender || !isUser(handle)) return null;
      return { kind: "contact", from: handle, to: [], ...terms, address: to("person", handle) };
    }
    case "call":
      if (key.caller !== event.sender) return null;
      return { kind: "call", from: event.sender, to: [], ...terms, address: to("calls") };
    default:
      return null;
  }
}

function isEdit(content: Record<string, unknown>): boolean {
  const relation = content["m.relates_to"];
  return isObject(relation) && relation.rel_type === "m.replace";
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

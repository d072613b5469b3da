// What every screen stands on: who is signed in, the APIs, and what this homeserver offers.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { type Api, answer, type Json, matrix, type Tokens } from "./api.ts";
import { formatMoney, type Money } from "./money.ts";
import { Problem } from "./problem.ts";
import { type Resource, useResource } from "./resources.ts";
import type { About, BelievedBadge, ContactList, PaymentsPage, SearchResult, Wallet } from "./schema.ts";
import type { Session } from "./session.ts";
import { locale } from "./text/index.ts";
import type { Card } from "./widget-room.ts";

/** What is around a widget; ``roomId`` is the room of a widget that belongs to one. */
export interface WidgetRoom {
  roomId: string | null;
  /** Say something readable in the room, where the homeserver cannot because it is encrypted. */
  postCard: (card: Card) => Promise<void>;
}

export interface Home {
  session: Session;
  tokens: Tokens;
  about: About;
  api: Api;
  /** A widget only reads: what moves money or changes settings leads to the app by itself. */
  widget: WidgetRoom | null;
  leave: () => Promise<void>;
}

export const HomeContext = createContext<Home | null>(null);

export function useHome(): Home {
  const home = useContext(HomeContext);
  if (home === null) throw new Error("no home around this screen");
  return home;
}

export function scaleOf(about: About, currency: string): number {
  return about.assets.find((asset) => asset.code === currency)?.scale ?? 0;
}

export function useMoney(): (money: Money, sign?: boolean) => string {
  const { about } = useHome();
  return (money, sign = false) => formatMoney(money, scaleOf(about, money.currency), locale(), sign);
}

const SOON_MS = 8_000;

export function useWallet(): Resource<Wallet> {
  const { api } = useHome();
  return useResource("wallet", () => answer(api.GET("/wallet")), SOON_MS);
}

export function useNewestPayments(): Resource<PaymentsPage> {
  const { api } = useHome();
  return useResource("payments", () => answer(api.GET("/payments", { params: { query: { limit: 50 } } })), SOON_MS);
}

export function useContacts(): Resource<ContactList> {
  const { api } = useHome();
  return useResource("contacts", () => answer(api.GET("/contacts")));
}

/** People whom ``term`` finds, once somebody has stopped typing for a moment. */
export function usePeople(term: string): Resource<SearchResult[]> {
  const { api } = useHome();
  const wanted = term.trim();
  return useResource(wanted === "" ? null : `search ${wanted}`, async () => {
    const found = await answer(api.POST("/search", { body: { term: wanted, limit: 12 } }));
    return found.results;
  });
}

/** The badges of a handle that the homeserver has checked. A record shows what its own homeserver likes to. */
export function useBadges(handle: string): Resource<BelievedBadge[]> {
  const { api } = useHome();
  return useResource(`badges ${handle}`, async () => {
    const found = await answer(api.GET("/handles/{handle}/badges", { params: { path: { handle } } }));
    return found.badges;
  });
}

/** Private account data of the person; null if there is none. */
export async function accountData(home: Home, type: string): Promise<Json | null> {
  try {
    return await matrix(home.tokens, "GET", accountDataPath(home, type));
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 404) return null;
    throw problem;
  }
}

export async function setAccountData(home: Home, type: string, content: Json): Promise<void> {
  await matrix(home.tokens, "PUT", accountDataPath(home, type), content);
}

function accountDataPath(home: Home, type: string): string {
  return `v3/user/${encodeURIComponent(home.session.userId)}/account_data/${encodeURIComponent(type)}`;
}

/** 128 random bits as 32 hexadecimal digits. */
export function newPaymentId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The full app, out of a widget. */
export function appAddress(address: string): string {
  return new URL(`../app/${address}`, document.baseURI).href;
}

// How cards and buttons look, in Element's own colours (Compound). React is Element's: a module brings none.

import type { Api } from "@element-hq/element-web-module-api";
import type { CSSProperties, JSX, ReactNode } from "react";
import { to } from "../../src/address.ts";
import { formatMoney } from "../../src/money.ts";
import type { Badges, Told } from "./badges.ts";
import type { Card } from "./cards.ts";
import { stateKey, type TextKey } from "./text.ts";

declare global {
  interface Window {
    React: typeof import("react");
  }
}

const BOX: CSSProperties = {
  display: "inline-flex",
  gap: "12px",
  maxWidth: "420px",
  minWidth: "240px",
  padding: "14px 16px",
  border: "1px solid var(--cpd-color-border-interactive-secondary, #8885)",
  borderRadius: "16px",
  background: "var(--cpd-color-bg-subtle-secondary, transparent)",
};
const COLUMN: CSSProperties = { display: "grid", gap: "4px", minWidth: 0, overflowWrap: "anywhere" };
const LARGE: CSSProperties = { font: "var(--cpd-font-heading-md-semibold, 600 1.4em sans-serif)" };
const SOFT: CSSProperties = { color: "var(--cpd-color-text-secondary, inherit)" };
const DEEDS: CSSProperties = { display: "flex", flexWrap: "wrap", gap: "12px", marginTop: "4px" };
const CHIP: CSSProperties = {
  justifySelf: "start",
  padding: "1px 10px",
  borderRadius: "99px",
  border: "1px solid currentColor",
  fontSize: "0.85em",
};
const BUTTON: CSSProperties = {
  display: "inline-flex",
  alignItems: "center",
  padding: "4px 12px",
  border: "none",
  borderRadius: "99px",
  background: "var(--cpd-color-bg-action-primary-rest, #1b1d22)",
  color: "var(--cpd-color-text-on-solid-primary, #fff)",
  cursor: "pointer",
  font: "inherit",
};
const PLAIN: CSSProperties = {
  ...BUTTON,
  padding: 0,
  background: "none",
  color: "var(--cpd-color-text-link-external, #0467dd)",
};
const MARK: CSSProperties = {
  color: "var(--cpd-color-text-success-primary, #007a61)",
  marginInlineStart: "0.25em",
  fontWeight: 600,
};
const HANDLE: CSSProperties = {
  ...PLAIN,
  maxWidth: "240px",
  marginInlineEnd: "12px",
  whiteSpace: "nowrap",
};
const CUT: CSSProperties = { overflow: "hidden", textOverflow: "ellipsis" };
const PICTURES: Readonly<Record<Card["kind"], string>> = { payment: "💸", request: "🙏", contact: "👤", call: "📞" };

export class View {
  readonly #api: Api;
  readonly #badges: Badges;
  readonly #open: (address: string) => void;

  /** ``open`` shows a screen of the wallet. */
  constructor(api: Api, badges: Badges, open: (address: string) => void) {
    this.#api = api;
    this.#badges = badges;
    this.#open = open;
  }

  card(card: Card): JSX.Element {
    const { createElement: h } = window.React;
    const state = card.state === null ? null : stateKey(card.state);
    const me = this.#api.profile.value.userId;
    const mine = card.kind === "request" && card.state === "open" && me !== undefined && card.to.includes(me);
    return h(
      "div",
      { style: BOX, role: "group", "aria-label": this.#t(`superapp_${card.kind}`) },
      h("span", { "aria-hidden": true, style: { fontSize: "1.6em" } }, PICTURES[card.kind]),
      h(
        "div",
        { style: COLUMN },
        card.money !== null && h("strong", { style: LARGE }, this.#amount(card.money)),
        ...this.#who(card),
        card.memo !== null && h("bdi", { style: SOFT }, card.memo),
        state !== null && h("span", { style: CHIP }, this.#t(state)),
        h("div", { style: DEEDS }, ...this.#deeds(card, mine)),
      ),
    );
  }

  /** In the header of a room: with whom one is there, if it is a chat of two, and the button to pay. */
  header(roomId: string, other: string | null): JSX.Element {
    const { createElement: h, Fragment } = window.React;
    const label = this.#t("superapp_pay_here");
    const onClick = () => this.pay(roomId, other);
    return h(
      Fragment,
      { key: "superapp" },
      other !== null && h(this.#HandleBadge, { person: other }),
      h(
        "button",
        { type: "button", style: BUTTON, title: label, "aria-label": label, onClick },
        this.#t("superapp_pay"),
      ),
    );
  }

  /** The wallet, to pay in a room; in a chat of two nobody has to be chosen. */
  pay(roomId?: string, other: string | null = null): void {
    this.#open(to("send", { room: roomId, to: other ?? undefined }));
  }

  /** The handle that people see instead of an address, and a tick where somebody vouches for it. */
  readonly #Name = ({ person }: { person: string }): JSX.Element => {
    const { createElement: h, Fragment } = window.React;
    const told = this.#useTold(person);
    return h(Fragment, null, h("bdi", { title: person }, told?.handle ?? person), this.#mark(told));
  };

  /** With whom one chats, and whether anybody vouches for them. Nothing of those who have no public handle. */
  readonly #HandleBadge = ({ person }: { person: string }): JSX.Element | null => {
    const { createElement: h } = window.React;
    const told = this.#useTold(person);
    if (told === null) return null;
    const label = this.#said(told);
    const onClick = () => this.#open(to("person", told.handle));
    return h(
      "button",
      { type: "button", style: HANDLE, title: label, "aria-label": label, onClick },
      h("bdi", { style: CUT }, told.handle),
      this.#mark(told),
    );
  };

  #useTold(person: string): Told | null {
    const badges = this.#badges;
    const known = () => badges.of(person);
    return window.React.useSyncExternalStore(badges.subscribe, known, known);
  }

  #mark(told: Told | null): ReactNode {
    if (told === null || told.issuers.length === 0) return null;
    const label = this.#said(told);
    return window.React.createElement("span", { role: "img", style: MARK, title: label, "aria-label": label }, "✓");
  }

  #said(told: Told): string {
    const key = told.issuers.length === 0 ? "superapp_unverified" : "superapp_verified_by";
    return this.#api.i18n.translate(key, { handle: told.handle, issuers: told.issuers.join(", ") });
  }

  #who(card: Card): ReactNode[] {
    const { createElement: h } = window.React;
    const name = (user: string) => h(this.#Name, { key: user, person: user });
    if (card.kind === "contact") return [h("strong", { key: "who" }, name(card.from))];
    // Without terms it says what the homeserver has written for everybody.
    if (card.money === null && card.lines.length > 0)
      return card.lines.map((line, order) => h("span", { key: order }, h("bdi", null, line)));
    if (card.to.length === 0) return [h("span", { key: "who" }, name(card.from))];
    const others = card.to.map((user, order) => h("span", { key: user }, order === 0 ? "" : ", ", name(user)));
    const key = card.kind === "request" ? "superapp_asks" : "superapp_from_to";
    const said = this.#api.i18n.translate(key, { from: name(card.from), to: h("span", null, ...others) }, {});
    return [h("span", { key: "who" }, said)];
  }

  #deeds(card: Card, mine: boolean): ReactNode[] {
    const { createElement: h } = window.React;
    const deed = (key: TextKey, style: CSSProperties, onClick: () => void) =>
      h("button", { key, type: "button", style, onClick }, this.#t(key));
    const look = () => this.#open(card.address);
    if (mine) return [deed("superapp_answer", BUTTON, look)];
    if (card.kind !== "contact") return [deed("superapp_open", PLAIN, look)];
    const chat = () => void this.#api.navigation.toMatrixToLink(`https://matrix.to/#/${encodeURIComponent(card.from)}`);
    return [deed("superapp_chat", PLAIN, chat), deed("superapp_check", PLAIN, look)];
  }

  #amount(money: NonNullable<Card["money"]>): string {
    return formatMoney(money, money.scale ?? scaleOf(money.currency), this.#api.i18n.language);
  }

  #t(key: TextKey): string {
    return this.#api.i18n.translate(key);
  }
}

/** How many digits a currency has after the point, where nobody says. */
function scaleOf(currency: string): number {
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 0;
  } catch {
    return 0;
  }
}

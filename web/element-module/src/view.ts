// How cards and buttons look, in Element's own colours (Compound). React is Element's: a module brings none.

import type { Api } from "@element-hq/element-web-module-api";
import type { CSSProperties, JSX, ReactNode } from "react";
import { formatMoney } from "../../src/money.ts";
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
const PICTURES: Readonly<Record<Card["kind"], string>> = { payment: "💸", request: "🙏", contact: "👤", call: "📞" };

export class View {
  readonly #api: Api;
  readonly #open: (address: string) => void;

  /** ``open`` shows a screen of the wallet. */
  constructor(api: Api, open: (address: string) => void) {
    this.#api = api;
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

  payButton(roomId: string): JSX.Element {
    const { createElement: h } = window.React;
    const label = this.#t("superapp_pay_here");
    return h(
      "button",
      {
        type: "button",
        key: "superapp_pay",
        style: BUTTON,
        title: label,
        "aria-label": label,
        onClick: () => this.#pay(roomId),
      },
      this.#t("superapp_pay"),
    );
  }

  #pay(roomId: string): void {
    this.#open(`#/send?room=${encodeURIComponent(roomId)}`);
  }

  #who(card: Card): ReactNode[] {
    const { createElement: h } = window.React;
    const name = (user: string) => h("bdi", { key: user }, user);
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

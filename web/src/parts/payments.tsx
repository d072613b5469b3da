// A payment in a list, and what its state means.

import type { Key } from "../text/index.ts";
import { t } from "../text/index.ts";
import { useContacts, useHome } from "../home.ts";
import { splitHandle } from "../links.ts";
import type { PaymentJson } from "../schema.ts";
import { to } from "../route.ts";
import { Amount, Avatar, day, Row, time } from "./basics.tsx";

export type State =
  | "held"
  | "awaiting_acceptance"
  | "committed"
  | "completed"
  | "declined"
  | "expired"
  | "cancelled"
  | "failed";

export const ENDED: readonly string[] = ["completed", "declined", "expired", "cancelled", "failed"];

export function stateText(payment: PaymentJson): string {
  const incoming = payment.direction === "incoming" ? "_incoming" : "";
  const key = `state.${payment.state}${incoming}`;
  return t((key in KNOWN ? key : `state.${payment.state}`) as Key);
}

const KNOWN: Readonly<Record<string, true>> = {
  "state.held_incoming": true,
  "state.awaiting_acceptance_incoming": true,
  "state.committed_incoming": true,
};

/** Who is on the other side, under the name that one knows. */
export function useNames(): (userId: string) => string {
  const contacts = useContacts();
  const { about, session } = useHome();
  return (userId) => {
    if (userId === session.userId) return t("you");
    const known = contacts.value?.contacts.find((each) => each.user_id === userId)?.handle ?? userId;
    const { name, server } = splitHandle(known);
    return server === about.server_name ? `@${name}` : `@${name}:${server}`;
  };
}

export function otherOf(payment: PaymentJson): string {
  return payment.direction === "incoming" ? payment.payer : payment.payee;
}

export function paymentAddress(payment: PaymentJson): string {
  return to("payment", payment.payment_id, payment.direction === "incoming" ? { payer: payment.payer } : {});
}

/** Money that did not move is not counted. */
export function moved(payment: PaymentJson): boolean {
  return payment.state === "completed";
}

export function PaymentRow({ payment }: { payment: PaymentJson }) {
  const nameOf = useNames();
  const incoming = payment.direction === "incoming";
  const other = otherOf(payment);
  const over = ENDED.includes(payment.state) && payment.state !== "completed";
  const amount = { amount: incoming ? payment.amount : -payment.amount, currency: payment.currency };
  const about = [
    payment.state === "completed" ? null : stateText(payment),
    payment.refund_of === undefined || payment.refund_of === null ? null : t("payment.refund"),
    payment.memo,
  ].filter(Boolean);
  return (
    <Row
      href={paymentAddress(payment)}
      start={<Avatar name={other} icon={incoming ? "receive" : "send"} />}
      title={<bdi>{nameOf(other)}</bdi>}
      below={<bdi>{about.length > 0 ? about.join(" · ") : t(incoming ? "payment.received" : "payment.sent")}</bdi>}
      end={
        <>
          <span class={`${incoming && !over ? "in" : ""}${over ? " over" : ""}`}>
            <Amount money={amount} sign />
          </span>
          <small>{time(payment.created_ts)}</small>
        </>
      }
    />
  );
}

/** Payments under the days on which they were made. */
export function PaymentList({ payments }: { payments: readonly PaymentJson[] }) {
  const days: { day: string; payments: PaymentJson[] }[] = [];
  for (const payment of payments) {
    const on = day(payment.created_ts);
    const last = days.at(-1);
    if (last?.day === on) last.payments.push(payment);
    else days.push({ day: on, payments: [payment] });
  }
  return (
    <>
      {days.map((each) => (
        <div class="day" key={each.day}>
          <h3>{each.day}</h3>
          <ul class="card list">
            {each.payments.map((payment) => (
              <li key={payment.payer + payment.payment_id}>
                <PaymentRow payment={payment} />
              </li>
            ))}
          </ul>
        </div>
      ))}
    </>
  );
}

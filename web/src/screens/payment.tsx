// One payment: how it stands, what that means, and what one can do about it.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { appAddress, newPaymentId, scaleOf, useHome, useMoney } from "../home.ts";
import { decimal, parseAmount } from "../money.ts";
import {
  Amount,
  Ask,
  Avatar,
  Button,
  dateTime,
  Failure,
  Field,
  Handle,
  LinkButton,
  Loaded,
  Screen,
} from "../parts/basics.tsx";
import { Icon, type IconName } from "../parts/icons.tsx";
import { ENDED, otherOf, stateText, useNames } from "../parts/payments.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { PaymentJson } from "../schema.ts";
import { type Key, locale, t } from "../text/index.ts";
import { amountFault } from "./send.tsx";

export function PaymentScreen({ paymentId, payer }: { paymentId: string; payer: string | undefined }) {
  const { api } = useHome();
  const params = { path: { payment_id: paymentId }, query: payer === undefined ? {} : { payer } };
  const payment = useResource(
    `payment ${payer ?? ""} ${paymentId}`,
    () => answer(api.GET("/payments/{payment_id}", { params })),
    3_000,
  );
  return (
    <Screen title={t("payment")} back={to("activity")}>
      <Loaded resource={payment} rows={4}>
        {(found) => <Payment payment={found} />}
      </Loaded>
    </Screen>
  );
}

function Payment({ payment }: { payment: PaymentJson }) {
  const { widget } = useHome();
  const nameOf = useNames();
  const other = otherOf(payment);
  const incoming = payment.direction === "incoming";
  const here = to("payment", payment.payment_id, incoming ? { payer: payment.payer } : {});
  const amount = { amount: payment.amount, currency: payment.currency };
  return (
    <>
      <div class="card hero">
        <Avatar name={other} icon={incoming ? "receive" : "send"} />
        <p class="hero-title">
          {t(incoming ? "payment.from" : "payment.to")} <bdi>{nameOf(other)}</bdi>
        </p>
        <Amount money={amount} large />
        {payment.memo !== undefined && payment.memo !== null && (
          <p class="memo">
            <bdi>{payment.memo}</bdi>
          </p>
        )}
        <StateLine payment={payment} />
      </div>
      {widget === null ? (
        <Deeds payment={payment} />
      ) : (
        (payment.state === "awaiting_acceptance" || payment.state === "held") && (
          <LinkButton href={appAddress(here)} icon="external" kind="main" wide outside>
            {t("widget.open_app")}
          </LinkButton>
        )
      )}
      <dl class="card facts">
        <Fact name={t(incoming ? "payment.from" : "payment.to")}>
          <a href={to("person", other)}>
            <Handle handle={other} />
          </a>
        </Fact>
        <Fact name={t("payment.made")}>{dateTime(payment.created_ts)}</Fact>
        {payment.expires_ts !== undefined && payment.expires_ts !== null && payment.state === "awaiting_acceptance" && (
          <Fact name={t("payment.waits_until")}>{dateTime(payment.expires_ts)}</Fact>
        )}
        {payment.reason !== undefined && payment.reason !== null && payment.reason !== payment.state && (
          <Fact name={t("payment.reason")}>{reasonText(payment.reason)}</Fact>
        )}
        {payment.refund_of !== undefined && payment.refund_of !== null && (
          <Fact name={t("payment.refund_of")}>
            <a href={to("payment", payment.refund_of, incoming ? {} : { payer: payment.payee })}>
              {t("payment.original")}
            </a>
          </Fact>
        )}
        <Fact name={t("payment.number")}>
          <code>{payment.payment_id}</code>
        </Fact>
      </dl>
    </>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const REASONS: Readonly<Record<string, Key>> = {
  declined: "reason.declined",
  expired: "reason.expired",
  cancelled: "reason.cancelled",
  not_allowed: "reason.not_allowed",
  payee_gone: "reason.payee_gone",
  credit_limit: "reason.credit_limit",
  no_link: "reason.no_link",
  peer_unreachable: "reason.peer_unreachable",
};

function reasonText(reason: string): string {
  const key = REASONS[reason];
  return key === undefined ? reason.replaceAll("_", " ") : t(key);
}

function StateLine({ payment }: { payment: PaymentJson }) {
  const [icon, kind]: [IconName, string] =
    payment.state === "completed"
      ? ["check", "good"]
      : ENDED.includes(payment.state)
        ? ["close", "over"]
        : ["clock", "open"];
  return (
    <p class={`state ${kind}`} role="status">
      <Icon name={icon} size={18} />
      {stateText(payment)}
    </p>
  );
}

type Deed = "accept" | "decline" | "cancel" | "refund";

function Deeds({ payment }: { payment: PaymentJson }) {
  const { api } = useHome();
  const money = useMoney();
  const [busy, setBusy] = useState<Deed | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [refunding, setRefunding] = useState(false);
  const incoming = payment.direction === "incoming";
  const path = { payment_id: payment.payment_id };
  const params = { path, query: incoming ? { payer: payment.payer } : {} };

  const deed = async (name: Deed, call: () => Promise<unknown>): Promise<boolean> => {
    setBusy(name);
    setProblem(null);
    try {
      await call();
      return true;
    } catch (thrown) {
      setProblem(asProblem(thrown));
      return false;
    } finally {
      setBusy(null);
      void refresh("payment", "wallet");
    }
  };

  return (
    <div class="stack">
      {problem !== null && <Failure problem={problem} />}
      {incoming && payment.state === "awaiting_acceptance" && (
        <div class="pair">
          <Button
            kind="main"
            icon="check"
            busy={busy === "accept"}
            onClick={() => deed("accept", () => answer(api.POST("/payments/{payment_id}/accept", { params })))}
          >
            {t("payment.accept", { amount: money(payment) })}
          </Button>
          <Button
            busy={busy === "decline"}
            onClick={() => deed("decline", () => answer(api.POST("/payments/{payment_id}/decline", { params })))}
          >
            {t("payment.decline")}
          </Button>
        </div>
      )}
      {!incoming && (payment.state === "held" || payment.state === "awaiting_acceptance") && (
        <Button
          busy={busy === "cancel"}
          onClick={() => deed("cancel", () => answer(api.POST("/payments/{payment_id}/cancel", { params: { path } })))}
        >
          {t("payment.cancel")}
        </Button>
      )}
      {payment.state === "completed" && <Paper payment={payment} />}
      {incoming && payment.state === "completed" && payment.refund_of == null && (
        <Button kind="quiet" onClick={() => setRefunding(true)}>
          {t("payment.give_back")}
        </Button>
      )}
      {!incoming && ENDED.includes(payment.state) && payment.refund_of == null && (
        <LinkButton
          href={to("send", {
            to: payment.payee,
            amount: String(payment.amount),
            currency: payment.currency,
            memo: payment.memo ?? undefined,
          })}
          icon="send"
        >
          {t("payment.again")}
        </LinkButton>
      )}
      {refunding && (
        <Refund
          payment={payment}
          busy={busy === "refund"}
          problem={problem}
          onClose={() => setRefunding(false)}
          onRefund={async (refundId, amount) => {
            const body = { payment_id: refundId, amount };
            const done = await deed("refund", () =>
              answer(api.POST("/payments/{payment_id}/refund", { params, body })),
            );
            if (done) setRefunding(false);
          }}
        />
      )}
    </div>
  );
}

/** The receipt of a completed payment; and for its payer the way to dispute it. */
function Paper({ payment }: { payment: PaymentJson }) {
  const { tokens } = useHome();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const incoming = payment.direction === "incoming";
  return (
    <div class="pair">
      <Button
        icon="file"
        busy={busy}
        onClick={async () => {
          setBusy(true);
          setProblem(null);
          try {
            const { downloadReceipt } = await import("../download.ts");
            await downloadReceipt(tokens, payment.payment_id, incoming ? payment.payer : null);
          } catch (thrown) {
            setProblem(asProblem(thrown));
          } finally {
            setBusy(false);
          }
        }}
      >
        {t("payment.receipt")}
      </Button>
      {!incoming && payment.refund_of == null && (
        <LinkButton href={to("dispute", payment.payment_id)} icon="scales">
          {t("payment.dispute")}
        </LinkButton>
      )}
      {problem !== null && <Failure problem={problem} />}
    </div>
  );
}

function Refund(props: {
  payment: PaymentJson;
  busy: boolean;
  problem: Problem | null;
  onClose: () => void;
  onRefund: (refundId: string, amount: number) => void;
}) {
  const { about } = useHome();
  const nameOf = useNames();
  const { payment } = props;
  const scale = scaleOf(about, payment.currency);
  const [typed, setTyped] = useState(() => decimal(payment.amount, scale));
  const [refund, setRefund] = useState({ id: newPaymentId(), amount: 0 });
  const amount = parseAmount(typed, scale, locale());
  const fault =
    typeof amount === "number"
      ? amount > payment.amount
        ? t("refund.too_much")
        : amount === 0
          ? t("amount.zero")
          : undefined
      : amountFault(amount, scale);
  return (
    <Ask title={t("refund.title")} onClose={props.onClose}>
      <p>{t("refund.explained", { name: nameOf(payment.payer) })}</p>
      {props.problem !== null && <Failure problem={props.problem} />}
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (typeof amount !== "number" || fault !== undefined) return;
          // Another amount is another refund; the same one again must not be a second.
          const next =
            refund.amount === 0 || refund.amount === amount ? { ...refund, amount } : { id: newPaymentId(), amount };
          setRefund(next);
          props.onRefund(next.id, amount);
        }}
      >
        <Field id="refund" label={t("amount", { currency: payment.currency })} fault={fault}>
          <input
            id="refund"
            inputMode="decimal"
            autocomplete="off"
            value={typed}
            aria-describedby="refund-hint"
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </Field>
        <div class="pair">
          <Button kind="main" type="submit" busy={props.busy}>
            {t("payment.give_back")}
          </Button>
          <Button onClick={props.onClose}>{t("close")}</Button>
        </div>
      </form>
    </Ask>
  );
}

// Disputes: opening one about a payment, what both sides and the operator say, and what came of it.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { scaleOf, useHome, useMoney } from "../home.ts";
import { decimal, parseAmount } from "../money.ts";
import {
  Amount,
  Avatar,
  Button,
  dateTime,
  Empty,
  Failure,
  Field,
  LinkButton,
  Loaded,
  Notice,
  Options,
  Row,
  Screen,
  Section,
} from "../parts/basics.tsx";
import { Fact, useDeed, useNumber } from "../parts/compose.tsx";
import { useNames } from "../parts/payments.tsx";
import { useResource } from "../resources.ts";
import { go, to, useRoute } from "../route.ts";
import type { CaseJson, PaymentJson } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { locale, t } from "../text/index.ts";
import { amountFault } from "./send.tsx";

type Ground = CaseJson["ground"];
const GROUNDS: readonly Ground[] = ["not_received", "not_as_agreed", "not_mine", "other"];
const STATEMENT_MAX = 2_000;

function caseAddress(found: CaseJson): string {
  return to("disputes", found.payment_id, found.side === "payee" ? { payer: found.payer } : {});
}

export function DisputesScreen() {
  const { api } = useHome();
  const nameOf = useNames();
  const disputes = useResource("disputes", () => answer(api.GET("/disputes")));
  return (
    <Screen title={d("disputes")} back={to("more")}>
      <Loaded resource={disputes} rows={2}>
        {(page) =>
          page.disputes.length === 0 ? (
            <Empty icon="scales" title={d("disputes.none")}>
              <p>{d("disputes.none.hint")}</p>
            </Empty>
          ) : (
            <ul class="card list">
              {page.disputes.map((each) => {
                const other = each.side === "payer" ? each.payee : each.payer;
                return (
                  <li key={each.payer + each.payment_id}>
                    <Row
                      href={caseAddress(each)}
                      start={<Avatar name={other} icon="scales" />}
                      title={<bdi>{nameOf(other)}</bdi>}
                      below={`${d(`case.${each.state}`)} · ${d(`ground.${each.ground}`)}`}
                      end={<Amount money={{ amount: each.wanted, currency: each.currency }} />}
                    />
                  </li>
                );
              })}
            </ul>
          )
        }
      </Loaded>
    </Screen>
  );
}

export function OpenDisputeScreen() {
  const { api } = useHome();
  const paymentId = useRoute().path[1] ?? "";
  const payment = useResource(`payment  ${paymentId}`, () =>
    answer(api.GET("/payments/{payment_id}", { params: { path: { payment_id: paymentId }, query: {} } })),
  );
  return (
    <Screen title={d("dispute.open")} back={to("payment", paymentId)}>
      <Loaded resource={payment}>{(found) => <OpenForm payment={found} />}</Loaded>
    </Screen>
  );
}

function OpenForm({ payment }: { payment: PaymentJson }) {
  const { api, about } = useHome();
  const money = useMoney();
  const nameOf = useNames();
  const scale = scaleOf(about, payment.currency);
  const [ground, setGround] = useState<Ground | null>(null);
  const [statement, setStatement] = useState("");
  const [typed, setTyped] = useState(() => decimal(payment.amount, scale));
  const [tried, setTried] = useState(false);
  const deed = useDeed("disputes");
  const amount = parseAmount(typed, scale, locale());
  const fault =
    typeof amount !== "number"
      ? amountFault(amount, scale)
      : amount > payment.amount
        ? t("refund.too_much")
        : amount === 0
          ? t("amount.zero")
          : undefined;
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (ground === null || statement.trim() === "" || typeof amount !== "number" || fault !== undefined) return;
        const body = { ground, statement: statement.trim(), ...(amount === payment.amount ? {} : { amount }) };
        const params = { path: { payment_id: payment.payment_id } };
        const found = await deed.run("open", () =>
          answer(api.POST("/payments/{payment_id}/dispute", { params, body })),
        );
        if (found !== null) go(caseAddress(found));
      }}
    >
      <Notice icon="scales">
        <p>{d("dispute.first", { name: nameOf(payment.payee), amount: money(payment) })}</p>
      </Notice>
      <Options<Ground>
        label={d("dispute.ground")}
        value={ground}
        onChange={setGround}
        options={GROUNDS.map((each) => [each, d(`ground.${each}`), d(`ground.${each}.hint`)] as const)}
      />
      {tried && ground === null && (
        <p class="fault" role="alert">
          {d("dispute.ground.missing")}
        </p>
      )}
      <StatementField
        value={statement}
        fault={tried && statement.trim() === "" ? d("statement.missing") : undefined}
        onInput={setStatement}
      />
      <Field id="amount" label={d("dispute.amount", { currency: payment.currency })} fault={fault}>
        <input
          id="amount"
          inputMode="decimal"
          autocomplete="off"
          aria-describedby="amount-hint"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </Field>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide icon="scales" busy={deed.busy !== null}>
        {d("dispute.open")}
      </Button>
    </form>
  );
}

function StatementField(props: { value: string; fault: string | undefined; onInput: (text: string) => void }) {
  return (
    <Field id="statement" label={d("statement")} hint={d("statement.hint")} fault={props.fault}>
      <textarea
        id="statement"
        rows={4}
        maxLength={STATEMENT_MAX}
        aria-describedby="statement-hint"
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </Field>
  );
}

export function DisputeScreen() {
  const { api } = useHome();
  const route = useRoute();
  const paymentId = route.path[1] ?? "";
  const payer = route.query.get("payer");
  const params = { path: { payment_id: paymentId }, query: payer === null ? {} : { payer } };
  const found = useResource(
    `disputes ${payer ?? ""} ${paymentId}`,
    () => answer(api.GET("/disputes/{payment_id}", { params })),
    5_000,
  );
  return (
    <Screen title={d("dispute")} back={to("disputes")}>
      <Loaded resource={found} rows={3}>
        {(seen) => <Case found={seen} />}
      </Loaded>
    </Screen>
  );
}

function Case({ found }: { found: CaseJson }) {
  const { api, widget } = useHome();
  const nameOf = useNames();
  const deed = useDeed("disputes");
  const numberOf = useNumber();
  const [text, setText] = useState("");
  const payer = found.side === "payer";
  const path = { payment_id: found.payment_id };
  const side = payer ? {} : { payer: found.payer };
  const authors = { payer: nameOf(found.payer), payee: nameOf(found.payee), operator: d("case.operator") };
  const open = found.state === "open";
  return (
    <>
      <div class="card hero">
        <Avatar name={payer ? found.payee : found.payer} icon="scales" />
        <p class="hero-title">
          <bdi>{d("case.about", { payer: nameOf(found.payer), payee: nameOf(found.payee) })}</bdi>
        </p>
        <Amount money={{ amount: found.granted ?? found.wanted, currency: found.currency }} large />
        <p class={`state ${open ? "open" : found.state === "settled" ? "good" : "over"}`} role="status">
          {d(`case.${found.state}`)}
        </p>
      </div>
      {!payer && found.state === "granted" && (
        <Notice icon="warn" kind="warn">
          <p>{d("case.pay_back")}</p>
        </Notice>
      )}
      <LinkButton href={to("payment", found.payment_id, side)}>{d("case.payment")}</LinkButton>
      <Section title={d("case.timeline")}>
        <ol class="timeline">
          {found.timeline.map((entry, place) => (
            <li key={place} class={entry.author === found.side ? "own" : ""}>
              <p class="timeline-head">
                <bdi>{authors[entry.author]}</bdi> {d(`act.${entry.act}`)}
                {entry.amount != null && (
                  <>
                    {" "}
                    <Amount money={{ amount: entry.amount, currency: found.currency }} />
                  </>
                )}
              </p>
              {entry.text != null && (
                <p class="timeline-text">
                  <bdi>{entry.text}</bdi>
                </p>
              )}
              <small>
                {dateTime(entry.ts)}
                {entry.pending === true && ` · ${d("case.pending")}`}
              </small>
            </li>
          ))}
        </ol>
      </Section>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {open && widget === null && (
        <form
          class="compose"
          onSubmit={async (event) => {
            event.preventDefault();
            const wish = { text: text.trim() };
            if (wish.text === "") return;
            const body = { statement_id: numberOf(wish), ...wish };
            const params = { path, query: side };
            const said = await deed.run("state", () =>
              answer(api.POST("/disputes/{payment_id}/statements", { params, body })),
            );
            if (said !== null) setText("");
          }}
        >
          <StatementField value={text} fault={undefined} onInput={setText} />
          <div class="pair">
            <Button kind="main" type="submit" busy={deed.busy === "state"}>
              {d("statement.say")}
            </Button>
            {payer && (
              <Button
                busy={deed.busy === "withdraw"}
                onClick={() =>
                  deed.run("withdraw", () => answer(api.POST("/disputes/{payment_id}/withdraw", { params: { path } })))
                }
              >
                {d("case.withdraw")}
              </Button>
            )}
          </div>
        </form>
      )}
      <dl class="card facts">
        <Fact name={d("dispute.ground")}>{d(`ground.${found.ground}`)}</Fact>
        <Fact name={d("case.decided_by")}>{found.decided_by}</Fact>
        <Fact name={d("case.opened")}>{dateTime(found.opened_ts)}</Fact>
      </dl>
    </>
  );
}

// Paying somebody: whom, how much, and a last look at both before anything moves.

import { useEffect, useState } from "preact/hooks";
import { answer } from "../api.ts";
import {
  appAddress,
  newPaymentId,
  scaleOf,
  useBadges,
  useHome,
  useMoney,
  useNewestPayments,
  useWallet,
} from "../home.ts";
import { linkAmount } from "../links.ts";
import { type AmountFault, decimal, parseAmount } from "../money.ts";
import { keepOrder, type Order, order, type Proof, standing } from "../orders.ts";
import {
  Amount,
  Avatar,
  Button,
  Choice,
  Failure,
  Field,
  Handle,
  LinkButton,
  Loaded,
  Notice,
  Screen,
  Skeleton,
  useFocus,
} from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { ENDED, otherOf, stateText } from "../parts/payments.tsx";
import { BadgeMark, FindPerson } from "../parts/people.tsx";
import { PinField } from "../parts/pin.tsx";
import { confirmWithPasskey, passkeyProblem, passkeysWork } from "../passkeys.ts";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import { go, type Route, to } from "../route.ts";
import type { BelievedBadge, PaymentJson, Wallet } from "../schema.ts";
import { locale, t } from "../text/index.ts";

const MEMO_MAX = 512;

export function SendScreen({ route }: { route: Route }) {
  const payee = route.query.get("to");
  if (payee === null)
    return (
      <Screen title={t("send")} back={to()}>
        <FindPerson label={t("send.whom")} href={(person) => sendTo(person.handle, route)} focus />
      </Screen>
    );
  return <Compose key={payee} payee={payee} route={route} />;
}

/** What was given with the way here (an amount, a room) stays. */
function sendTo(payee: string, route: Route): string {
  return to("send", { ...Object.fromEntries(route.query), to: payee });
}

export function amountFault(fault: AmountFault, scale: number): string | undefined {
  if (fault === "malformed") return t("amount.malformed");
  if (fault === "precise") return scale === 0 ? t("amount.whole") : t("amount.precise", { n: scale });
  if (fault === "large") return t("amount.large");
  return undefined;
}

function Compose({ payee, route }: { payee: string; route: Route }) {
  const wallet = useWallet();
  return (
    <Screen title={t("send")} back={to("send")}>
      <Loaded resource={wallet}>{(found) => <Form payee={payee} route={route} wallet={found} />}</Loaded>
    </Screen>
  );
}

function Form({ payee, route, wallet }: { payee: string; route: Route; wallet: Wallet }) {
  const { widget, about } = useHome();
  const money = useMoney();
  const focus = useFocus();
  const proposed = route.query.get("currency");
  const first =
    wallet.accounts.find((each) => each.currency === proposed) ??
    wallet.accounts.find((each) => each.available > 0) ??
    wallet.accounts[0];
  const [currency, setCurrency] = useState(first?.currency ?? "");
  const scale = scaleOf(about, currency);
  const [typed, setTyped] = useState(() => proposedAmount(route, scaleOf(about, first?.currency ?? "")));
  const [memo, setMemo] = useState(route.query.get("memo") ?? "");
  const [tried, setTried] = useState(false);
  const [confirming, setConfirming] = useState<Order | null>(() => confirmedIn(route, payee));
  const account = wallet.accounts.find((each) => each.currency === currency);
  const amount = parseAmount(typed, scale, locale());
  const fault =
    typeof amount !== "number"
      ? (amountFault(amount, scale) ?? (tried ? t("amount.missing") : undefined))
      : amount === 0
        ? tried
          ? t("amount.zero")
          : undefined
        : account !== undefined && amount > account.available
          ? t("amount.too_much", { available: money({ amount: account.available, currency }) })
          : undefined;

  if (confirming !== null)
    return <Confirm order={confirming} onBack={() => setConfirming(null)} onChange={setConfirming} />;
  return (
    <form
      class="compose"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setTried(true);
        if (typeof amount !== "number" || amount === 0 || fault !== undefined) {
          document.getElementById("amount")?.focus();
          return;
        }
        const room = route.query.get("room") ?? widget?.roomId ?? null;
        setConfirming({
          payment_id: newPaymentId(),
          payee,
          amount,
          currency,
          ...(memo.trim() === "" ? {} : { memo: memo.trim() }),
          ...(room === null ? {} : { room_id: room }),
        });
      }}
    >
      <div class="card payee">
        <Avatar name={payee} />
        <p>
          <span class="hint">{t("send.to")}</span>
          <Handle handle={payee} />
        </p>
        <a href={to("send", { ...Object.fromEntries(route.query), to: undefined })}>{t("send.change")}</a>
      </div>
      {wallet.accounts.length > 1 && (
        <Choice
          label={t("currency")}
          value={currency}
          onChange={setCurrency}
          options={wallet.accounts.map((each) => [each.currency, each.currency] as const)}
        />
      )}
      <Field
        id="amount"
        label={t("amount", { currency })}
        hint={
          account === undefined
            ? ""
            : t("amount.available", { available: money({ amount: account.available, currency }) })
        }
        fault={fault}
      >
        <input
          id="amount"
          class="amount-input"
          inputMode={scale === 0 ? "numeric" : "decimal"}
          autocomplete="off"
          placeholder={decimal(0, scale)}
          {...focus}
          aria-describedby="amount-hint"
          aria-invalid={fault !== undefined}
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </Field>
      <Field id="memo" label={t("memo")} hint={t("memo.hint")}>
        <input
          id="memo"
          maxLength={MEMO_MAX}
          autocomplete="off"
          aria-describedby="memo-hint"
          value={memo}
          onInput={(event) => setMemo(event.currentTarget.value)}
        />
      </Field>
      <Button kind="main" type="submit" wide>
        {t("send.next")}
      </Button>
    </form>
  );
}

/** An amount in the address: minor units from our own screens, or a decimal from a payto link. */
function proposedAmount(route: Route, scale: number): string {
  const minor = route.query.get("amount");
  if (minor !== null && /^[0-9]{1,16}$/.test(minor)) return localised(Number(minor), scale);
  const written = route.query.get("decimal");
  const amount = written === null ? null : linkAmount(written, scale);
  return amount === null ? "" : localised(amount, scale);
}

function localised(amount: number, scale: number): string {
  const point = new Intl.NumberFormat(locale()).formatToParts(1.5).find((part) => part.type === "decimal")?.value;
  return decimal(amount, scale).replace(".", point ?? ".");
}

/** A widget hands over what was entered in it, with the number of the payment: here it is only confirmed. */
function confirmedIn(route: Route, payee: string): Order | null {
  const id = route.query.get("id");
  const amount = route.query.get("amount");
  const currency = route.query.get("currency");
  const room = route.query.get("room");
  const memo = route.query.get("memo");
  const request = route.query.get("request");
  if (
    id === null ||
    !/^[0-9a-f]{32}$/.test(id) ||
    amount === null ||
    !/^[0-9]{1,16}$/.test(amount) ||
    currency === null
  )
    return null;
  return {
    payment_id: id,
    payee,
    amount: Number(amount),
    currency,
    ...(memo === null ? {} : { memo }),
    ...(room === null ? {} : { room_id: room }),
    ...(request === null ? {} : { request }),
  };
}

function Confirm(props: { order: Order; onBack: () => void; onChange: (order: Order) => void }) {
  const home = useHome();
  const money = useMoney();
  const payments = useNewestPayments();
  const [payment, setPayment] = useState<PaymentJson | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const [pin, setPin] = useState("");
  const [proving, setProving] = useState(false);
  const { order: wanted } = props;
  const costs = home.about.fees.includes(wanted.currency) && home.widget === null;
  const quote = useResource(costs ? `quote ${wanted.payee} ${wanted.amount} ${wanted.currency}` : null, () => {
    const { payee, amount, currency } = wanted;
    return answer(home.api.POST("/payments/quote", { body: { payee, amount, currency } }));
  });
  const fee = quote.value?.fee ?? 0;
  const shown: Order = costs ? { ...wanted, fee } : wanted;
  const pay = async (prove: () => Promise<Proof | undefined>) => {
    setBusy(true);
    setProblem(null);
    try {
      setPayment(await order(home, shown, await prove()));
    } catch (thrown) {
      const found = asProblem(passkeyProblem(thrown));
      setProblem(found);
      setPin("");
      if (found.code === "PIN_REQUIRED") setProving(true);
      if (found.code === "FEE_NOT_CONFIRMED") await quote.again();
    } finally {
      setBusy(false);
      void refresh("wallet", "payment");
    }
  };
  const record = useResource(`record ${wanted.payee}`, () =>
    answer(home.api.GET("/handles/{handle}", { params: { path: { handle: wanted.payee } } })),
  );
  const badges = useBadges(wanted.payee);
  const userId = record.value?.user_id ?? wanted.payee;
  const isNew =
    payments.value !== undefined &&
    !payments.value.payments.some((each) => each.direction === "outgoing" && otherOf(each) === userId);

  if (payment !== null) return <Outcome payment={payment} />;
  if (home.widget !== null) return <InApp order={wanted} onBack={props.onBack} onPaid={setPayment} />;
  const unknown = record.problem?.code === "UNKNOWN_HANDLE";
  return (
    <div class="confirm">
      <div class="card hero">
        <p class="hero-title">{t("confirm.title")}</p>
        <Amount money={wanted} large />
        {fee > 0 && (
          <p>
            {t("confirm.fee", {
              fee: money({ ...wanted, amount: fee }),
              total: money({ ...wanted, amount: wanted.amount + fee }),
            })}
          </p>
        )}
        {wanted.memo !== undefined && (
          <p class="memo">
            <bdi>{wanted.memo}</bdi>
          </p>
        )}
      </div>
      <div class="card payee large">
        <Avatar name={wanted.payee} />
        <p>
          <span class="hint">{t("confirm.to")}</span>
          <Handle handle={record.value?.handle ?? wanted.payee} />
          {record.value !== undefined && record.value.handle !== record.value.user_id && (
            <small>
              <bdi>{record.value.user_id}</bdi>
            </small>
          )}
        </p>
      </div>
      {[record, badges].some((each) => each.value === undefined && each.problem === undefined) ? (
        <Skeleton rows={1} />
      ) : (
        <Trust badges={badges.value ?? []} isNew={isNew} payee={wanted.payee} unknown={unknown} />
      )}
      {record.problem !== undefined && !unknown && <Failure problem={record.problem} again={record.again} />}
      {quote.problem !== undefined && <Failure problem={quote.problem} again={quote.again} />}
      {problem?.code === "DEPOSIT_REQUIRED" ? (
        <Deposit problem={problem} person={wanted.payee} again={() => void pay(async () => undefined)} />
      ) : (
        problem !== null && problem.code !== "PIN_REQUIRED" && <Failure problem={problem} />
      )}
      {problem?.code === "PIN_NOT_SET" && (
        <LinkButton href={to("safety")} icon="shield" wide>
          {t("pin.choose")}
        </LinkButton>
      )}
      {proving && (
        <div class="card prose">
          <p>{t("confirm.prove")}</p>
          <PinField id="pin" label={t("pin.current")} value={pin} onInput={setPin} />
          {passkeysWork() && (
            <Button
              wide
              icon="shield"
              busy={busy}
              onClick={() => void pay(async () => ({ passkey: await confirmWithPasskey(home, shown) }))}
            >
              {t("confirm.passkey")}
            </Button>
          )}
        </div>
      )}
      {problem?.unheard === true && <p class="hint">{t("confirm.unheard")}</p>}
      {problem?.code === "PAYEE_NOT_IN_ROOM" && (
        <Button
          wide
          onClick={() => {
            const { room_id: _, ...elsewhere } = wanted;
            setProblem(null);
            props.onChange({ ...elsewhere, payment_id: newPaymentId() });
          }}
        >
          {t("confirm.direct")}
        </Button>
      )}
      <div class="stack">
        <Button
          kind="main"
          wide
          icon="send"
          busy={busy}
          disabled={costs && quote.value === undefined}
          onClick={() => void pay(async () => (proving && pin !== "" ? { pin } : undefined))}
        >
          {problem?.unheard === true
            ? t("confirm.ask_again")
            : t("confirm.pay", { amount: money({ ...wanted, amount: wanted.amount + fee }) })}
        </Button>
        {problem?.unheard !== true && (
          <Button
            wide
            onClick={() => {
              keepOrder(home.session.userId, null);
              props.onBack();
            }}
          >
            {t("confirm.back")}
          </Button>
        )}
      </div>
    </div>
  );
}

/** They ask strangers for a deposit before there can be a room of the two: loaded for whom that concerns. */
function Deposit(props: { problem: Problem; person: string; again: () => void }) {
  const [reach, setReach] = useState<typeof import("../parts/reach.tsx") | null>(null);
  useEffect(() => {
    import("../parts/reach.tsx").then(
      (found) => setReach(found),
      // The sentence of the refusal says what to do without it.
      () => undefined,
    );
  }, []);
  return reach === null ? (
    <Failure problem={props.problem} />
  ) : (
    <reach.default {...props} label={t("confirm.deposit")} />
  );
}

function Trust(props: { badges: readonly BelievedBadge[]; isNew: boolean; payee: string; unknown: boolean }) {
  if (props.unknown)
    return (
      <Notice icon="warn" kind="warn">
        <p>{t("trust.hidden")}</p>
      </Notice>
    );
  if (props.badges.length > 0)
    return (
      <Notice icon="shield" kind="good">
        <p>
          <BadgeMark badges={props.badges} />{" "}
          {t("trust.verified", { issuers: props.badges.map((badge) => badge.issuer).join(", ") })}
        </p>
        {props.isNew && <p>{t("trust.new")}</p>}
      </Notice>
    );
  return (
    <Notice icon={props.isNew ? "warn" : "shield"} kind={props.isNew ? "warn" : "calm"}>
      <p>{props.isNew ? t("trust.new") : t("trust.known")}</p>
      <p class="hint">{t("trust.unverified")}</p>
    </Notice>
  );
}

function Outcome({ payment: first }: { payment: PaymentJson }) {
  const home = useHome();
  const money = useMoney();
  const payment = useResource(
    `payment  ${first.payment_id} outcome`,
    () => standing(home, first.payment_id),
    ENDED.includes(first.state) ? undefined : 1_500,
  );
  const now = payment.value ?? first;
  useEffect(() => {
    void refresh("wallet", "payments", "requests");
  }, [now.state]);
  const good = now.state === "completed";
  const bad = ENDED.includes(now.state) && !good;
  return (
    <div class="card hero outcome" role="status">
      <span class={`outcome-mark ${good ? "good" : bad ? "bad" : "open"}`}>
        <Icon name={good ? "check" : bad ? "close" : "clock"} size={40} />
      </span>
      <p class="outcome-title">{good ? t("outcome.completed") : bad ? t("outcome.ended") : t("outcome.open")}</p>
      <p>
        {money(now)} · <Handle handle={now.payee} />
      </p>
      <p class="hint">{stateText(now)}</p>
      <div class="pair">
        <LinkButton href={to()} kind="main">
          {t("outcome.done")}
        </LinkButton>
        <LinkButton href={to("payment", now.payment_id)}>{t("outcome.look")}</LinkButton>
      </div>
    </div>
  );
}

/** In a widget: the payment is confirmed in the app by itself, where one is signed in as oneself. */
function InApp(props: { order: Order; onBack: () => void; onPaid: (payment: PaymentJson) => void }) {
  const home = useHome();
  const money = useMoney();
  const { order: wanted } = props;
  const [opened, setOpened] = useState(false);
  const payment = useResource(
    opened ? `payment  ${wanted.payment_id} awaited` : null,
    () => standing(home, wanted.payment_id),
    1_500,
  );
  useEffect(() => {
    if (payment.value === undefined) return;
    const said = t("card.paid", { payer: home.session.userId, payee: wanted.payee, amount: money(wanted) });
    const { payment_id, payer, payee, amount, currency, memo, state, room_id, encrypted } = payment.value;
    // Isolated: what somebody writes may turn the direction of what is around it.
    const text = memo == null ? said : `${said}\n\u2068${memo}\u2069`;
    const scale = scaleOf(home.about, currency);
    const terms = { payee, amount, currency, scale, ...(memo == null ? {} : { memo }), state };
    // Where the room is not encrypted the homeserver says it itself.
    if (encrypted === true && room_id != null)
      void home.widget?.postCard({ roomId: room_id, paymentId: payment_id, payer, text, terms });
    props.onPaid(payment.value);
  }, [payment.value === undefined]);
  const address = to("send", {
    to: wanted.payee,
    id: wanted.payment_id,
    amount: String(wanted.amount),
    currency: wanted.currency,
    memo: wanted.memo,
    room: wanted.room_id,
    request: wanted.request,
  });
  return (
    <div class="confirm">
      <div class="card hero">
        <Amount money={wanted} large />
        <Handle handle={wanted.payee} />
      </div>
      <Notice icon="shield">
        <p>{t("widget.confirm")}</p>
      </Notice>
      <div class="stack">
        <a
          class="button main wide"
          href={appAddress(address)}
          target="_blank"
          rel="noopener"
          onClick={() => setOpened(true)}
        >
          <Icon name="external" size={20} />
          <span>{t("widget.confirm_in_app")}</span>
        </a>
        <Button wide onClick={props.onBack}>
          {t("confirm.back")}
        </Button>
        {opened && (
          <p class="hint" role="status">
            {t("widget.waiting")}
          </p>
        )}
      </div>
    </div>
  );
}

/** Where a scanned or opened link leads. */
export function openLink(link: { payee: string; currency?: string; amount?: string; memo?: string }): void {
  go(to("send", { to: link.payee, currency: link.currency, decimal: link.amount, memo: link.memo }));
}

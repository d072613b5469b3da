// Asking for money, and being asked.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { appAddress, newPaymentId, scaleOf, useHome, useMoney, useWallet } from "../home.ts";
import { decimal, parseAmount } from "../money.ts";
import {
  Amount,
  Avatar,
  Button,
  Choice,
  dateTime,
  day,
  Empty,
  Failure,
  Field,
  Handle,
  LinkButton,
  Loaded,
  Row,
  Screen,
  Section,
  useFocus,
} from "../parts/basics.tsx";
import { useNames } from "../parts/payments.tsx";
import { FindPerson } from "../parts/people.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { type Resource, refresh, useResource } from "../resources.ts";
import { go, type Route, to } from "../route.ts";
import type { RequestJson, RequestsPage, Wallet } from "../schema.ts";
import { type Key, locale, t } from "../text/index.ts";
import { amountFault } from "./send.tsx";

const SOON_MS = 8_000;

function useRequests(): Resource<RequestsPage> {
  const { api } = useHome();
  return useResource("requests", () => answer(api.GET("/requests", { params: { query: { limit: 50 } } })), SOON_MS);
}

function addressOf(request: RequestJson): string {
  return to("asked", request.request_id, request.direction === "incoming" ? { requester: request.requester } : {});
}

function RequestRow({ request }: { request: RequestJson }) {
  const nameOf = useNames();
  const incoming = request.direction === "incoming";
  const others = incoming ? [request.requester] : request.from.map((each) => each.user_id);
  const state = request.state === "open" && incoming ? null : t(`asked.${request.state}` as Key);
  return (
    <Row
      href={addressOf(request)}
      start={<Avatar name={others[0] ?? "?"} icon="ask" />}
      title={<bdi>{others.map(nameOf).join(", ")}</bdi>}
      below={<bdi>{[state, request.memo].filter(Boolean).join(" · ") || t(incoming ? "asked.you" : "asked.them")}</bdi>}
      end={
        <>
          <Amount money={request} />
          <small>{day(request.created_ts)}</small>
        </>
      }
    />
  );
}

/** Those that wait for this person; nothing where there are none. */
export function WaitingRequests() {
  const requests = useRequests();
  const waiting = (requests.value?.requests ?? []).filter(
    (request) => request.direction === "incoming" && request.state === "open",
  );
  if (waiting.length === 0) return null;
  return (
    <Section title={t("asked.waiting")}>
      <ul class="card list">
        {waiting.map((request) => (
          <li key={request.requester + request.request_id}>
            <RequestRow request={request} />
          </li>
        ))}
      </ul>
    </Section>
  );
}

export function RequestsScreen() {
  const requests = useRequests();
  const { widget } = useHome();
  return (
    <Screen
      title={t("requests")}
      back={to()}
      action={
        widget === null && (
          <LinkButton href={to("request")} icon="plus">
            {t("request")}
          </LinkButton>
        )
      }
    >
      <Loaded resource={requests} rows={4}>
        {(page) =>
          page.requests.length === 0 ? (
            <Empty icon="ask" title={t("requests.none")}>
              <p>{t("requests.none.hint")}</p>
            </Empty>
          ) : (
            <ul class="card list">
              {page.requests.map((request) => (
                <li key={request.requester + request.request_id}>
                  <RequestRow request={request} />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Screen>
  );
}

export function RequestScreen({ route }: { route: Route }) {
  const wallet = useWallet();
  const asked = route.query.get("to");
  if (asked === null)
    return (
      <Screen title={t("request")} back={to("requests")}>
        <FindPerson label={t("request.whom")} href={(person) => to("request", { to: person.handle })} focus />
      </Screen>
    );
  return (
    <Screen title={t("request")} back={to("request")}>
      <Loaded resource={wallet}>{(found) => <RequestForm asked={asked} wallet={found} />}</Loaded>
    </Screen>
  );
}

function RequestForm({ asked, wallet }: { asked: string; wallet: Wallet }) {
  const { api, about } = useHome();
  const focus = useFocus();
  const [currency, setCurrency] = useState(wallet.accounts[0]?.currency ?? "");
  const [typed, setTyped] = useState("");
  const [memo, setMemo] = useState("");
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  // The same request again must not be a second one; another body is another request.
  const [made, setMade] = useState({ id: newPaymentId(), body: "" });
  const scale = scaleOf(about, currency);
  const amount = parseAmount(typed, scale, locale());
  const fault =
    typeof amount !== "number"
      ? (amountFault(amount, scale) ?? (tried ? t("amount.missing") : undefined))
      : amount === 0 && tried
        ? t("amount.zero")
        : undefined;
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (typeof amount !== "number" || amount === 0 || fault !== undefined) {
          document.getElementById("amount")?.focus();
          return;
        }
        const wanted = { from: [asked], amount, currency, ...(memo.trim() === "" ? {} : { memo: memo.trim() }) };
        const body = JSON.stringify(wanted);
        const id = made.body === "" || made.body === body ? made.id : newPaymentId();
        setMade({ id, body });
        setBusy(true);
        setProblem(null);
        try {
          const request = await answer(api.POST("/requests", { body: { request_id: id, ...wanted } }));
          void refresh("requests");
          go(addressOf(request));
        } catch (thrown) {
          setProblem(asProblem(thrown));
        } finally {
          setBusy(false);
        }
      }}
    >
      <div class="card payee">
        <Avatar name={asked} />
        <p>
          <span class="hint">{t("request.from")}</span>
          <Handle handle={asked} />
        </p>
        <a href={to("request")}>{t("send.change")}</a>
      </div>
      {wallet.accounts.length > 1 && (
        <Choice
          label={t("currency")}
          value={currency}
          onChange={setCurrency}
          options={wallet.accounts.map((each) => [each.currency, each.currency] as const)}
        />
      )}
      <Field id="amount" label={t("amount", { currency })} fault={fault}>
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
          maxLength={512}
          autocomplete="off"
          aria-describedby="memo-hint"
          value={memo}
          onInput={(event) => setMemo(event.currentTarget.value)}
        />
      </Field>
      {problem !== null && <Failure problem={problem} />}
      <Button kind="main" type="submit" wide busy={busy} icon="ask">
        {t("request.ask")}
      </Button>
    </form>
  );
}

export function AskedScreen({ requestId, requester }: { requestId: string; requester: string | undefined }) {
  const { api } = useHome();
  const params = { path: { request_id: requestId }, query: requester === undefined ? {} : { requester } };
  const request = useResource(
    `requests ${requester ?? ""} ${requestId}`,
    () => answer(api.GET("/requests/{request_id}", { params })),
    3_000,
  );
  return (
    <Screen title={t("asked")} back={to("requests")}>
      <Loaded resource={request} rows={3}>
        {(found) => <Asked request={found} />}
      </Loaded>
    </Screen>
  );
}

function Asked({ request }: { request: RequestJson }) {
  const { api, widget } = useHome();
  const money = useMoney();
  const nameOf = useNames();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const incoming = request.direction === "incoming";
  const path = { request_id: request.request_id };
  const deed = async (call: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await call();
    } catch (thrown) {
      setProblem(asProblem(thrown));
    } finally {
      setBusy(false);
      void refresh("requests");
    }
  };
  const payment = request.from.find((each) => each.payment_id != null)?.payment_id;
  return (
    <>
      <div class="card hero">
        <Avatar name={request.requester} icon="ask" />
        <p class="hero-title">
          {incoming ? (
            <bdi>{t("asked.by", { name: nameOf(request.requester) })}</bdi>
          ) : (
            <bdi>{t("asked.of", { names: request.from.map((each) => nameOf(each.user_id)).join(", ") })}</bdi>
          )}
        </p>
        <Amount money={request} large />
        {request.memo != null && (
          <p class="memo">
            <bdi>{request.memo}</bdi>
          </p>
        )}
        <p class={`state ${request.state === "paid" ? "good" : request.state === "open" ? "open" : ""}`} role="status">
          {t(`asked.${request.state}` as Key)}
        </p>
      </div>
      {problem !== null && <Failure problem={problem} />}
      {request.state === "open" && incoming && (
        <div class="pair">
          <Button
            kind="main"
            icon="send"
            onClick={() =>
              go(
                to("send", {
                  to: request.requester,
                  id: newPaymentId(),
                  amount: String(request.amount),
                  currency: request.currency,
                  memo: request.memo ?? undefined,
                  room: request.room_id,
                  request: request.request_id,
                }),
              )
            }
          >
            {t("confirm.pay", { amount: money(request) })}
          </Button>
          {widget === null ? (
            <Button
              busy={busy}
              onClick={() =>
                deed(() =>
                  answer(
                    api.POST("/requests/{request_id}/decline", {
                      params: { path, query: { requester: request.requester } },
                    }),
                  ),
                )
              }
            >
              {t("payment.decline")}
            </Button>
          ) : (
            <LinkButton href={appAddress(addressOf(request))} icon="external" outside>
              {t("widget.open_app")}
            </LinkButton>
          )}
        </div>
      )}
      {request.state === "open" && !incoming && widget === null && (
        <Button
          busy={busy}
          onClick={() => deed(() => answer(api.POST("/requests/{request_id}/cancel", { params: { path } })))}
        >
          {t("payment.cancel")}
        </Button>
      )}
      {payment != null && incoming && <LinkButton href={to("payment", payment)}>{t("outcome.look")}</LinkButton>}
      <dl class="card facts">
        <div>
          <dt>{t("payment.from")}</dt>
          <dd>
            <a href={to("person", request.requester)}>
              <Handle handle={request.requester} />
            </a>
          </dd>
        </div>
        {request.from.map((each) => (
          <div key={each.user_id}>
            <dt>
              <Handle handle={each.user_id} />
            </dt>
            <dd>{t(`asked.${each.state}` as Key)}</dd>
          </div>
        ))}
        <div>
          <dt>{t("payment.waits_until")}</dt>
          <dd>{dateTime(request.expires_ts)}</dd>
        </div>
      </dl>
    </>
  );
}

// One request: how it stands, who has paid, and what one can do about it.

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
  Notice,
  Row,
  Screen,
  Section,
} from "../parts/basics.tsx";
import { Fact, Progress, useDeed } from "../parts/compose.tsx";
import { useNames } from "../parts/payments.tsx";
import { useResource } from "../resources.ts";
import { go, to, useRoute } from "../route.ts";
import type { RequestJson } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { type Key, locale, t } from "../text/index.ts";
import { amountFault } from "./send.tsx";

export function AskedScreen() {
  const { api } = useHome();
  const route = useRoute();
  const requestId = route.path[1] ?? "";
  const requester = route.query.get("requester");
  const params = { path: { request_id: requestId }, query: requester === null ? {} : { requester } };
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

function addressOf(request: RequestJson): string {
  return to("asked", request.request_id, request.direction === "incoming" ? { requester: request.requester } : {});
}

function Asked({ request }: { request: RequestJson }) {
  const { api, widget } = useHome();
  const money = useMoney();
  const nameOf = useNames();
  const deed = useDeed("requests");
  const [giving, setGiving] = useState(false);
  const [reminded, setReminded] = useState(false);
  const incoming = request.direction === "incoming";
  const goal = request.kind === "goal";
  const path = { request_id: request.request_id };
  const payment = request.from.find((each) => each.payment_id != null)?.payment_id;
  const open = request.state === "open" || (goal && request.state === "paying");
  const missing = Math.max(0, request.total - request.paid);
  const pay = (amount: number) =>
    go(
      to("send", {
        to: request.requester,
        id: newPaymentId(),
        amount: String(amount),
        currency: request.currency,
        memo: request.memo ?? undefined,
        room: request.room_id,
        request: request.request_id,
      }),
    );
  return (
    <>
      <div class="card hero">
        <Avatar name={request.requester} icon={goal ? "goal" : "ask"} />
        <p class="hero-title">
          <bdi>
            {goal
              ? d("collect.by", { name: nameOf(request.requester) })
              : incoming
                ? t("asked.by", { name: nameOf(request.requester) })
                : t("asked.of", { names: request.from.map((each) => nameOf(each.user_id)).join(", ") })}
          </bdi>
        </p>
        <Amount money={request} large />
        {request.memo != null && (
          <p class="memo">
            <bdi>{request.memo}</bdi>
          </p>
        )}
        {(goal || (request.kind === "split" && !incoming)) && (
          <div class="how-far">
            <Progress label={d("progress")} done={request.paid} of={goal ? request.total : asked(request)} />
            <p>
              {d("progress.of", {
                paid: money({ amount: request.paid, currency: request.currency }),
                total: money({ amount: goal ? request.total : asked(request), currency: request.currency }),
              })}
            </p>
          </div>
        )}
        {request.kind === "split" && (
          <p class="hint">
            {d("split.of_total", { total: money({ amount: request.total, currency: request.currency }) })}
          </p>
        )}
        <p class={`state ${request.state === "paid" ? "good" : request.state === "open" ? "open" : ""}`} role="status">
          {goal && request.state === "paid" ? d("collect.reached") : t(`asked.${request.state}` as Key)}
        </p>
      </div>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {open && goal && widget === null && !(request.requester === "" || !incoming) && (
        <Button kind="main" icon="send" wide onClick={() => setGiving(true)}>
          {d("collect.put_in")}
        </Button>
      )}
      {giving && <PutIn request={request} missing={missing} onClose={() => setGiving(false)} onPay={pay} />}
      {request.state === "open" && incoming && !goal && (
        <div class="pair">
          <Button kind="main" icon="send" onClick={() => pay(request.amount)}>
            {t("confirm.pay", { amount: money(request) })}
          </Button>
          {widget === null ? (
            <Button
              busy={deed.busy !== null}
              onClick={() =>
                deed.run("decline", () =>
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
      {open && !incoming && widget === null && (
        <div class="pair">
          {!goal && (
            <Button
              icon="bell"
              busy={deed.busy === "remind"}
              onClick={async () =>
                setReminded(
                  (await deed.run("remind", () =>
                    answer(api.POST("/requests/{request_id}/remind", { params: { path } })),
                  )) !== null,
                )
              }
            >
              {d("remind")}
            </Button>
          )}
          <Button
            busy={deed.busy === "cancel"}
            onClick={() =>
              deed.run("cancel", () => answer(api.POST("/requests/{request_id}/cancel", { params: { path } })))
            }
          >
            {goal ? d("collect.end") : t("payment.cancel")}
          </Button>
        </div>
      )}
      <div role="status">
        {reminded && (
          <Notice icon="check" kind="good">
            <p>{d("reminded")}</p>
          </Notice>
        )}
      </div>
      {payment != null && incoming && <LinkButton href={to("payment", payment)}>{t("outcome.look")}</LinkButton>}
      {!goal && !incoming && (
        <Section title={d("progress.who")}>
          <ul class="card list">
            {request.from.map((each) => (
              <li key={each.user_id}>
                <Row
                  start={<Avatar name={each.user_id} />}
                  title={<Handle handle={each.user_id} />}
                  below={each.state === "excused" ? d("excused") : t(`asked.${each.state}` as Key)}
                  end={
                    <>
                      <Amount money={{ amount: each.amount, currency: request.currency }} />
                      {each.state === "open" && request.kind === "split" && widget === null && (
                        <button
                          type="button"
                          class="link"
                          onClick={() =>
                            deed.run("excuse", () =>
                              answer(
                                api.POST("/requests/{request_id}/excuse", {
                                  params: { path },
                                  body: { payer: each.user_id },
                                }),
                              ),
                            )
                          }
                        >
                          {d("excuse")}
                          <span class="unseen"> {each.user_id}</span>
                        </button>
                      )}
                    </>
                  }
                />
              </li>
            ))}
          </ul>
        </Section>
      )}
      {goal && (request.contributions ?? []).length > 0 && (
        <Section title={d("progress.who")}>
          <ul class="card list">
            {(request.contributions ?? []).map((each) => (
              <li key={each.payment_id}>
                <Row
                  start={<Avatar name={each.user_id} />}
                  title={<Handle handle={each.user_id} />}
                  below={t(`asked.${each.state}` as Key)}
                  end={<Amount money={{ amount: each.amount, currency: request.currency }} />}
                />
              </li>
            ))}
          </ul>
        </Section>
      )}
      <dl class="card facts">
        <Fact name={t("payment.from")}>
          <a href={to("person", request.requester)}>
            <Handle handle={request.requester} />
          </a>
        </Fact>
        <Fact name={t("payment.waits_until")}>{dateTime(request.expires_ts)}</Fact>
      </dl>
    </>
  );
}

/** What the others are asked for, without one's own part. */
function asked(request: RequestJson): number {
  return request.from.filter((each) => each.state !== "excused").reduce((sum, each) => sum + each.amount, 0);
}

function PutIn(props: { request: RequestJson; missing: number; onClose: () => void; onPay: (amount: number) => void }) {
  const { about } = useHome();
  const scale = scaleOf(about, props.request.currency);
  const [typed, setTyped] = useState(() => decimal(props.missing, scale));
  const amount = parseAmount(typed, scale, locale());
  const fault = typeof amount !== "number" ? amountFault(amount, scale) : amount === 0 ? t("amount.zero") : undefined;
  return (
    <Ask title={d("collect.put_in")} onClose={props.onClose}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          if (typeof amount === "number" && amount > 0) props.onPay(amount);
        }}
      >
        <Field id="put-in" label={t("amount", { currency: props.request.currency })} fault={fault}>
          <input
            id="put-in"
            inputMode="decimal"
            autocomplete="off"
            aria-describedby="put-in-hint"
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </Field>
        <div class="pair">
          <Button kind="main" type="submit">
            {t("send.next")}
          </Button>
          <Button onClick={props.onClose}>{t("close")}</Button>
        </div>
      </form>
    </Ask>
  );
}

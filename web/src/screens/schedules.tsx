// Paying later, once or again and again: what is to come, and what became of what was.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome, useMoney, useWallet } from "../home.ts";
import {
  Amount,
  Avatar,
  Button,
  dateTime,
  Empty,
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
import { Fact, MemoField, useAmount, useDeed, useNumber, useProof } from "../parts/compose.tsx";
import { Icon } from "../parts/icons.tsx";
import { useNames } from "../parts/payments.tsx";
import { FindPerson } from "../parts/people.tsx";
import { useResource } from "../resources.ts";
import { go, to, useRoute } from "../route.ts";
import type { ScheduleJson, Wallet } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";

type Every = ScheduleJson["every"];
const EVERY: readonly Every[] = ["once", "daily", "weekly", "monthly"];

export function SchedulesScreen() {
  const { api } = useHome();
  const nameOf = useNames();
  const schedules = useResource("schedules", () => answer(api.GET("/schedules")));
  return (
    <Screen
      title={d("schedules")}
      back={to("more")}
      action={
        <LinkButton href={to("schedule")} icon="plus">
          {d("schedule.new")}
        </LinkButton>
      }
    >
      <Loaded resource={schedules} rows={3}>
        {(page) =>
          page.schedules.length === 0 ? (
            <Empty icon="calendar" title={d("schedules.none")}>
              <p>{d("schedules.none.hint")}</p>
            </Empty>
          ) : (
            <ul class="card list">
              {page.schedules.map((each) => (
                <li key={each.schedule_id}>
                  <Row
                    href={to("schedules", each.schedule_id)}
                    start={<Avatar name={each.payee_user_id} icon="calendar" />}
                    title={<bdi>{nameOf(each.payee_user_id)}</bdi>}
                    below={
                      <bdi>
                        {[
                          d(`every.${each.every}`),
                          each.next_ts == null
                            ? d(`schedule.${each.state}`)
                            : d("schedule.next", { date: dateTime(each.next_ts) }),
                          each.memo,
                        ]
                          .filter(Boolean)
                          .join(" · ")}
                      </bdi>
                    }
                    end={<Amount money={each} />}
                  />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Screen>
  );
}

export function NewScheduleScreen() {
  const wallet = useWallet();
  const payee = useRoute().query.get("to");
  if (payee === null)
    return (
      <Screen title={d("schedule.new")} back={to("schedules")}>
        <FindPerson label={t("send.whom")} href={(person) => to("schedule", { to: person.handle })} focus />
      </Screen>
    );
  return (
    <Screen title={d("schedule.new")} back={to("schedule")}>
      <Loaded resource={wallet}>{(found) => <ScheduleForm payee={payee} wallet={found} />}</Loaded>
    </Screen>
  );
}

/** Tomorrow by the clock of this device, as 2026-12-31. */
function tomorrow(): string {
  const date = new Date();
  date.setDate(date.getDate() + 1);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
}

function ScheduleForm({ payee, wallet }: { payee: string; wallet: Wallet }) {
  const { api, about } = useHome();
  const money = useMoney();
  const [every, setEvery] = useState<Every>("monthly");
  const [first, setFirst] = useState(tomorrow);
  const [at, setAt] = useState("09:00");
  const [until, setUntil] = useState("");
  const [memo, setMemo] = useState("");
  const [tried, setTried] = useState(false);
  const deed = useDeed("schedules");
  const numberOf = useNumber();
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const { amount, currency, field } = useAmount(
    wallet.accounts.map((each) => each.currency),
    tried,
  );
  const costs = about.fees.includes(currency);
  const quote = useResource(costs && amount !== null ? `quote ${payee} ${amount} ${currency}` : null, () =>
    answer(api.POST("/payments/quote", { body: { payee, amount: amount ?? 0, currency } })),
  );
  // Confirmed only once it has been shown; asked for anew with each amount.
  const fee = costs ? quote.value?.fee : undefined;
  const confirmed = fee === undefined ? {} : { fee };
  const proof = useProof(deed.problem, amount === null ? null : { payee, amount, currency, ...confirmed });
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (amount === null || first === "" || (costs && fee === undefined)) return;
        const wish = {
          payee,
          amount,
          currency,
          every,
          first,
          at,
          tz: zone,
          ...confirmed,
          ...(memo.trim() === "" ? {} : { memo: memo.trim() }),
          ...(until === "" || every === "once" ? {} : { until }),
        };
        const body = { schedule_id: numberOf(wish), ...wish, ...proof.take() };
        const schedule = await deed.run("make", () => answer(api.POST("/schedules", { body })));
        if (schedule !== null) go(to("schedules", schedule.schedule_id));
      }}
    >
      <div class="card payee">
        <Avatar name={payee} />
        <p>
          <span class="hint">{t("send.to")}</span>
          <Handle handle={payee} />
        </p>
        <a href={to("schedule")}>{t("send.change")}</a>
      </div>
      {field}
      <MemoField value={memo} hint={t("memo.hint")} onInput={setMemo} />
      <Field id="every" label={d("schedule.every")}>
        <select id="every" value={every} onChange={(event) => setEvery(event.currentTarget.value as Every)}>
          {EVERY.map((each) => (
            <option key={each} value={each}>
              {d(`every.${each}`)}
            </option>
          ))}
        </select>
      </Field>
      <div class="side-by-side">
        <Field id="first" label={every === "once" ? d("schedule.day") : d("schedule.first")}>
          <input id="first" type="date" value={first} onInput={(event) => setFirst(event.currentTarget.value)} />
        </Field>
        <Field id="at" label={d("schedule.at")}>
          <input id="at" type="time" value={at} onInput={(event) => setAt(event.currentTarget.value)} />
        </Field>
      </div>
      {every === "monthly" && Number(first.slice(8)) > 28 && <p class="hint">{d("schedule.month_end")}</p>}
      {every !== "once" && (
        <Field id="until" label={d("schedule.until")}>
          <input id="until" type="date" value={until} onInput={(event) => setUntil(event.currentTarget.value)} />
        </Field>
      )}
      <p class="hint">{d("schedule.explained", { zone })}</p>
      {fee !== undefined && fee > 0 && amount !== null && (
        <p role="status">
          {d("schedule.fee", {
            fee: money({ amount: fee, currency }),
            total: money({ amount: amount + fee, currency }),
          })}
        </p>
      )}
      {quote.problem !== undefined && <Failure problem={quote.problem} again={quote.again} />}
      {proof.field}
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide icon="calendar" busy={deed.busy !== null}>
        {amount === null
          ? d("schedule.make")
          : d("schedule.make_amount", { amount: money({ amount, currency }), every: d(`every.${every}`) })}
      </Button>
    </form>
  );
}

export function ScheduleScreen() {
  const { api } = useHome();
  const scheduleId = useRoute().path[1] ?? "";
  const schedule = useResource(
    `schedules ${scheduleId}`,
    () => answer(api.GET("/schedules/{schedule_id}", { params: { path: { schedule_id: scheduleId } } })),
    8_000,
  );
  return (
    <Screen title={d("schedule")} back={to("schedules")}>
      <Loaded resource={schedule} rows={3}>
        {(found) => <Schedule schedule={found} />}
      </Loaded>
    </Screen>
  );
}

function Schedule({ schedule }: { schedule: ScheduleJson }) {
  const { api } = useHome();
  const money = useMoney();
  const deed = useDeed("schedules");
  const params = { path: { schedule_id: schedule.schedule_id } };
  const active = schedule.state === "active";
  const paused = schedule.state === "paused";
  return (
    <>
      <div class="card hero">
        <Avatar name={schedule.payee_user_id} icon="calendar" />
        <p class="hero-title">
          <Handle handle={schedule.payee} />
        </p>
        <Amount money={schedule} large />
        {schedule.fee != null && (
          <p>
            {d("schedule.fee", {
              fee: money({ amount: schedule.fee, currency: schedule.currency }),
              total: money({ amount: schedule.amount + schedule.fee, currency: schedule.currency }),
            })}
          </p>
        )}
        {schedule.memo != null && (
          <p class="memo">
            <bdi>{schedule.memo}</bdi>
          </p>
        )}
        <p class={`state ${active ? "open" : "over"}`} role="status">
          {schedule.next_ts == null
            ? d(`schedule.${schedule.state}`)
            : d("schedule.next", { date: dateTime(schedule.next_ts) })}
        </p>
      </div>
      {schedule.again_ts != null && (
        <Notice icon="clock" kind="warn">
          <p>{d("schedule.again", { date: dateTime(schedule.again_ts) })}</p>
        </Notice>
      )}
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {(active || paused) && (
        <div class="pair">
          {active && schedule.every !== "once" && (
            <Button
              busy={deed.busy === "skip"}
              onClick={() => deed.run("skip", () => answer(api.POST("/schedules/{schedule_id}/skip", { params })))}
            >
              {d("schedule.skip")}
            </Button>
          )}
          <Button
            busy={deed.busy === "pause"}
            onClick={() =>
              deed.run("pause", () =>
                active
                  ? answer(api.POST("/schedules/{schedule_id}/pause", { params }))
                  : answer(api.POST("/schedules/{schedule_id}/resume", { params })),
              )
            }
          >
            {active ? d("schedule.pause") : d("schedule.resume")}
          </Button>
          <Button
            kind="danger"
            busy={deed.busy === "cancel"}
            onClick={() => deed.run("cancel", () => answer(api.POST("/schedules/{schedule_id}/cancel", { params })))}
          >
            {d("schedule.cancel")}
          </Button>
        </div>
      )}
      {schedule.past.length > 0 && (
        <Section title={d("schedule.past")}>
          <ul class="card list">
            {schedule.past.map((each) => (
              <li key={each.number}>
                <Row
                  {...(each.payment_id == null ? {} : { href: to("payment", each.payment_id) })}
                  start={
                    <span class="row-icon">
                      <Icon name={each.outcome === "ordered" ? "check" : "close"} />
                    </span>
                  }
                  title={dateTime(each.due_ts)}
                  below={d(`outcome.${each.outcome}`)}
                />
              </li>
            ))}
          </ul>
        </Section>
      )}
      <dl class="card facts">
        <Fact name={d("schedule.every")}>{d(`every.${schedule.every}`)}</Fact>
        <Fact name={d("schedule.first")}>
          {schedule.first}, {schedule.at} ({schedule.tz})
        </Fact>
        {schedule.until != null && <Fact name={d("schedule.until")}>{schedule.until}</Fact>}
      </dl>
    </>
  );
}

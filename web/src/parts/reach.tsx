// What reaching somebody costs: the price of a minute, or a deposit, seen and confirmed before anything moves.

import { useEffect, useState } from "preact/hooks";
import { answer } from "../api.ts";
import { amountIn, costOf, firstOf } from "../fares.ts";
import { useHome, useMoney } from "../home.ts";
import type { Money } from "../money.ts";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import type { PaidCallJson } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { Amount, Button, Failure, Field, Handle, Notice } from "./basics.tsx";
import { useNumber, useProof } from "./compose.tsx";

const LONGEST = [5, 10, 30, 60, 120];
const ASKED_AGAIN_MS = 1_000;
const SECOND_MS = 1_000;
const ASKED_AGAIN_MAX = 30;

/** Something that was refused until it is paid for. ``again`` does it once more, when it is. */
export default function ReachAsk(props: { problem: Problem; person: string; label: string; again: () => void }) {
  const { problem } = props;
  const asked = amountIn(problem.fields);
  if (asked === null) return <Failure problem={problem} />;
  return problem.code === "DEPOSIT_REQUIRED" ? (
    <DepositAsk recipient={props.person} asked={asked} label={props.label} done={props.again} />
  ) : (
    <PriceAsk callee={props.person} asked={asked} confirmed={props.again} />
  );
}

/** The price of a ring, or of coming into the call behind a link, which is paid to ``callee``. */
export function PriceAsk(props: { callee: string; link?: string; asked: Money; confirmed: () => void }) {
  const { api } = useHome();
  const money = useMoney();
  const [price, setPrice] = useState(props.asked);
  const [minutes, setMinutes] = useState(30);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const { amount, currency } = price;
  const most = { amount: amount * minutes, currency };
  const proof = useProof(problem, { payee: props.callee, ...most });
  const numberOf = useNumber();
  return (
    <form
      class="card prose"
      aria-label={d("price.confirm")}
      onSubmit={async (event) => {
        event.preventDefault();
        if (busy) return;
        setBusy(true);
        setProblem(null);
        const whom = props.link === undefined ? { callee: props.callee } : { link: props.link };
        const wish = { ...whom, amount, currency, minutes };
        try {
          await answer(api.POST("/paid_calls", { body: { fare_id: numberOf(wish), ...wish, ...proof.take() } }));
          props.confirmed();
        } catch (thrown) {
          const found = asProblem(thrown);
          setProblem(found);
          const changed = found.code === "PRICE_CHANGED" ? amountIn(found.fields) : null;
          if (changed !== null) setPrice(changed);
        } finally {
          setBusy(false);
          void refresh("wallet", "paid_calls", "call_room");
        }
      }}
    >
      <p>
        {d("price.costs", { price: money(price) })} <Handle handle={props.callee} />
      </p>
      <Field id="minutes" label={d("price.longest")}>
        <select id="minutes" onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
          {LONGEST.map((each) => (
            <option key={each} value={each} selected={each === minutes}>
              {d("price.minutes", { n: each, most: money({ amount: amount * each, currency }) })}
            </option>
          ))}
        </select>
      </Field>
      <p class="hint">{d("price.explained", { first: money({ amount: firstOf(amount, minutes), currency }) })}</p>
      {proof.field}
      {problem !== null && <Failure problem={problem} />}
      <Button kind="main" type="submit" wide icon="phone" busy={busy}>
        {d(props.link === undefined ? "price.ring" : "price.enter", { price: money(price) })}
      </Button>
    </form>
  );
}

function DepositAsk(props: { recipient: string; asked: Money; label: string; done: () => void }) {
  const { api } = useHome();
  const money = useMoney();
  const [asked, setAsked] = useState(props.asked);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const proof = useProof(problem, { payee: props.recipient, ...asked });
  const numberOf = useNumber();
  const { recipient } = props;
  const arrived = async () => {
    // Between homeservers it takes a moment until it lies there.
    for (let times = 0; times < ASKED_AGAIN_MAX; times += 1) {
      const terms = await answer(api.GET("/deposit_terms/{recipient}", { params: { path: { recipient } } }));
      if (terms.amount == null) return;
      await new Promise((resolve) => setTimeout(resolve, ASKED_AGAIN_MS));
    }
  };
  return (
    <form
      class="card prose"
      aria-label={d("deposit.put_down")}
      onSubmit={async (event) => {
        event.preventDefault();
        if (busy) return;
        setBusy(true);
        setProblem(null);
        const wish = { recipient, ...asked };
        try {
          const put = await answer(
            api.POST("/deposits", { body: { deposit_id: numberOf(wish), ...wish, ...proof.take() } }),
          );
          if (put.state !== "completed") await arrived();
          props.done();
        } catch (thrown) {
          const found = asProblem(thrown);
          setProblem(found);
          const changed = found.code === "PRICE_CHANGED" ? amountIn(found.fields) : null;
          if (changed !== null) setAsked(changed);
        } finally {
          setBusy(false);
          void refresh("wallet", "payments", "deposit_terms");
        }
      }}
    >
      <p>
        <Handle handle={recipient} /> {d("deposit.wanted", { amount: money(asked) })}
      </p>
      <p class="hint">{d("deposit.wanted.hint")}</p>
      {proof.field}
      {problem !== null && <Failure problem={problem} />}
      <Button kind="main" type="submit" wide busy={busy}>
        {props.label}
      </Button>
    </form>
  );
}

/** What somebody asks of those whom they do not know, on the page of the person. */
export function Costs({ person }: { person: string }) {
  const { api, about } = useHome();
  const money = useMoney();
  const [down, setDown] = useState(false);
  const price = useResource(about.features.includes("calls") ? `call_prices ${person}` : null, () =>
    answer(api.GET("/call_prices/{callee}", { params: { path: { callee: person } } })),
  );
  const deposit = useResource(`deposit_terms ${person}`, () =>
    answer(api.GET("/deposit_terms/{recipient}", { params: { path: { recipient: person } } })),
  );
  const minute = price.value === undefined ? null : amountIn({ ...price.value });
  const asked = deposit.value === undefined ? null : amountIn({ ...deposit.value });
  return (
    <>
      {minute !== null && (
        <Notice icon="phone">
          <p>{d("price.minute", { price: money(minute) })}</p>
        </Notice>
      )}
      {asked !== null && (
        <DepositAsk
          recipient={person}
          asked={asked}
          label={d("deposit.put", { amount: money(asked) })}
          done={() => setDown(true)}
        />
      )}
      <div role="status">
        {down && asked === null && (
          <Notice icon="check" kind="good">
            <p>{d("deposit.is_down")}</p>
          </Notice>
        )}
      </div>
    </>
  );
}

/** What a call with somebody has come to, or that of a room, second by second while it lasts, and at its end. */
export function Cost({ callee, room, over }: { callee?: string; room?: string; over: boolean }) {
  const { api } = useHome();
  const [fareId, setFareId] = useState<string | null>(null);
  const fares = useResource(
    "paid_calls",
    async () => ({ ...(await answer(api.GET("/paid_calls"))), atMs: Date.now() }),
    over ? 2_000 : 5_000,
  );
  const fare = fares.value?.calls.find(
    (each) =>
      each.fare_id === fareId ||
      ((room === undefined ? each.callee === callee && each.link == null : each.room_id === room) &&
        ["agreed", "running"].includes(each.state)),
  );
  if (fare !== undefined && fare.fare_id !== fareId && !over) setFareId(fare.fare_id);
  if (fare === undefined || fares.value === undefined || (over && fareId === null)) return null;
  return <Meter fare={fare} atMs={fares.value.atMs} running={!over && fare.state === "running"} />;
}

function Meter({ fare, atMs, running }: { fare: PaidCallJson; atMs: number; running: boolean }) {
  const [nowMs, setNowMs] = useState(atMs);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNowMs(Date.now()), SECOND_MS);
    return () => clearInterval(timer);
  }, [running]);
  const cost = running ? costOf(fare, fare.talked_ms + Math.max(0, nowMs - atMs)) : fare.cost;
  return (
    <span class="hint">
      {d(fare.state === "ended" ? "price.came_to" : "price.so_far")} <Amount money={{ ...fare, amount: cost }} />
    </span>
  );
}

// Everything that was paid, with filters, and a month as a chart.

import { useMemo, useState } from "preact/hooks";
import { type Home, useHome, useMoney, useNewestPayments, useWallet } from "../home.ts";
import { answer } from "../api.ts";
import { type Day, daysOf, monthSpan } from "../month.ts";
import { Amount, Button, Choice, Empty, Failure, Loaded, Screen } from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { ENDED, otherOf, PaymentList, useNames } from "../parts/payments.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { useResource } from "../resources.ts";
import type { PaymentJson, PaymentsPage } from "../schema.ts";
import { locale, t } from "../text/index.ts";

type Filter = "all" | "received" | "sent" | "open";

const PAGE = 100;
/** So many pages are read for one month's chart; who pays more often sees that it is not whole. */
const CHART_PAGES = 20;

export function ActivityScreen() {
  const home = useHome();
  const newest = useNewestPayments();
  const wallet = useWallet();
  const nameOf = useNames();
  const [older, setOlder] = useState<PaymentsPage | null>(null);
  const [filter, setFilter] = useState<Filter>("all");
  const [words, setWords] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const payments = useMemo(() => merged(newest.value, older), [newest.value, older]);
  const next = older === null ? newest.value?.next : older.next;
  const wanted = words.trim().toLowerCase();
  const shown = payments.filter(
    (payment) =>
      passes(payment, filter) &&
      (wanted === "" ||
        `${otherOf(payment)} ${nameOf(otherOf(payment))} ${payment.memo ?? ""}`.toLowerCase().includes(wanted)),
  );
  return (
    <Screen title={t("activity")}>
      <Loaded resource={wallet} rows={2}>
        {(found) => <Month currencies={found.accounts.map((account) => account.currency)} />}
      </Loaded>
      <div class="filters">
        <Choice
          label={t("activity.filter")}
          value={filter}
          onChange={setFilter}
          options={[
            ["all", t("activity.all")],
            ["received", t("activity.received")],
            ["sent", t("activity.sent")],
            ["open", t("activity.open")],
          ]}
        />
        <div class="searchbox">
          <Icon name="search" size={20} />
          <input
            type="search"
            aria-label={t("activity.search")}
            placeholder={t("activity.search")}
            value={words}
            onInput={(event) => setWords(event.currentTarget.value)}
          />
        </div>
      </div>
      <Loaded resource={newest} rows={6}>
        {() =>
          shown.length > 0 ? (
            <PaymentList payments={shown} />
          ) : (
            <Empty icon="activity" title={payments.length > 0 ? t("activity.nothing_found") : t("activity.none")}>
              {payments.length === 0 && <p>{t("activity.none.hint")}</p>}
            </Empty>
          )
        }
      </Loaded>
      {problem !== null && <Failure problem={problem} />}
      {next !== undefined && next !== null && (
        <div class="centre">
          <Button
            busy={busy}
            onClick={async () => {
              setBusy(true);
              try {
                const page = await pageOf(home, next);
                const before = older?.payments ?? [];
                setOlder({ ...page, payments: [...before, ...page.payments] });
                setProblem(null);
              } catch (thrown) {
                setProblem(asProblem(thrown));
              } finally {
                setBusy(false);
              }
            }}
          >
            {t("activity.older")}
          </Button>
        </div>
      )}
    </Screen>
  );
}

function pageOf(home: Home, since?: string): Promise<PaymentsPage> {
  const query = since === undefined ? { limit: PAGE } : { limit: PAGE, since };
  return answer(home.api.GET("/payments", { params: { query } }));
}

function merged(newest: PaymentsPage | undefined, older: PaymentsPage | null): PaymentJson[] {
  const known = new Map<string, PaymentJson>();
  for (const payment of [...(newest?.payments ?? []), ...(older?.payments ?? [])]) {
    const key = payment.payer + payment.payment_id;
    if (!known.has(key)) known.set(key, payment);
  }
  return [...known.values()];
}

function passes(payment: PaymentJson, filter: Filter): boolean {
  if (filter === "received") return payment.direction === "incoming";
  if (filter === "sent") return payment.direction === "outgoing";
  return filter === "all" || !ENDED.includes(payment.state);
}

function Month({ currencies }: { currencies: readonly string[] }) {
  const home = useHome();
  const [ago, setAgo] = useState(0);
  const [currency, setCurrency] = useState(currencies[0] ?? "");
  const { first, startMs } = monthSpan(new Date(), ago);
  const payments = useResource(`payments of ${startMs}`, () => paymentsSince(home, startMs), 30_000);
  const title = new Intl.DateTimeFormat(locale(), { month: "long", year: "numeric" }).format(first);
  return (
    <section class="card month" aria-labelledby="month">
      <div class="month-head">
        <button type="button" class="round small" aria-label={t("month.before")} onClick={() => setAgo(ago + 1)}>
          <Icon name="back" size={18} />
        </button>
        <h2 id="month" aria-live="polite">
          {title}
        </h2>
        <button
          type="button"
          class="round small"
          aria-label={t("month.after")}
          disabled={ago === 0}
          onClick={() => setAgo(ago - 1)}
        >
          <Icon name="next" size={18} />
        </button>
      </div>
      {currencies.length > 1 && (
        <Choice
          label={t("currency")}
          value={currency}
          onChange={setCurrency}
          options={currencies.map((each) => [each, each] as const)}
        />
      )}
      <Loaded resource={payments} rows={1}>
        {(found) => (
          <>
            <Chart days={daysOf(found.payments, currency, new Date(), ago)} currency={currency} title={title} />
            {!found.whole && <p class="hint">{t("month.not_whole")}</p>}
          </>
        )}
      </Loaded>
    </section>
  );
}

async function paymentsSince(home: Home, startMs: number): Promise<{ payments: PaymentJson[]; whole: boolean }> {
  const payments: PaymentJson[] = [];
  let since: string | undefined;
  for (let pages = 0; pages < CHART_PAGES; pages += 1) {
    const page = await pageOf(home, since);
    payments.push(...page.payments);
    since = page.next ?? undefined;
    const last = page.payments.at(-1);
    if (since === undefined || last === undefined || last.created_ts < startMs) return { payments, whole: true };
  }
  return { payments, whole: false };
}

function Chart({ days, currency, title }: { days: readonly Day[]; currency: string; title: string }) {
  const money = useMoney();
  const sum = (key: "received" | "sent") => days.reduce((total, day) => total + day[key], 0);
  const received = { amount: sum("received"), currency };
  const sent = { amount: sum("sent"), currency };
  const most = Math.max(1, ...days.map((day) => Math.max(day.received, day.sent)));
  const width = 100 / days.length;
  const height = (amount: number) => (amount === 0 ? 0 : Math.max(1.5, (amount / most) * 34));
  return (
    <>
      <dl class="month-sums">
        <div>
          <dt>
            <i class="dot in" /> {t("activity.received")}
          </dt>
          <dd>
            <Amount money={received} />
          </dd>
        </div>
        <div>
          <dt>
            <i class="dot out" /> {t("activity.sent")}
          </dt>
          <dd>
            <Amount money={sent} />
          </dd>
        </div>
      </dl>
      <svg
        class="chart"
        viewBox="0 0 100 76"
        preserveAspectRatio="none"
        role="img"
        aria-label={t("month.chart", { month: title, received: money(received), sent: money(sent) })}
      >
        <line x1="0" x2="100" y1="38" y2="38" class="chart-line" />
        {days.map((day, at) => (
          <g key={day.day}>
            <rect
              class="chart-in"
              x={at * width + width * 0.2}
              width={width * 0.6}
              y={37.4 - height(day.received)}
              height={height(day.received)}
              rx="0.5"
            />
            <rect
              class="chart-out"
              x={at * width + width * 0.2}
              width={width * 0.6}
              y={38.6}
              height={height(day.sent)}
              rx="0.5"
            />
          </g>
        ))}
      </svg>
      <div class="chart-days" aria-hidden="true">
        <span>1</span>
        <span>{Math.round(days.length / 2)}</span>
        <span>{days.length}</span>
      </div>
    </>
  );
}

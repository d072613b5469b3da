// Statements: what was booked in a month, as a list and as files, and what a year came to.

import { answer } from "../api.ts";
import { download } from "../download.ts";
import { useHome, useMoney, useWallet } from "../home.ts";
import {
  Amount,
  Button,
  Choice,
  dateTime,
  Empty,
  Failure,
  Loaded,
  Notice,
  Row,
  Screen,
  Section,
} from "../parts/basics.tsx";
import { Fact, useDeed } from "../parts/compose.tsx";
import { Icon } from "../parts/icons.tsx";
import { useNames } from "../parts/payments.tsx";
import { useResource } from "../resources.ts";
import { to, useRoute } from "../route.ts";
import type { SynapseSuperAppStatementsBodiesStatementJson as StatementJson, SummaryJson } from "../schema.ts";
import { d, type Name } from "../text/deeds.ts";
import { chosenLanguage, locale, preferred, t } from "../text/index.ts";

const MONTHS = 12;
const FILES = ["pdf", "csv", "camt.053"] as const;
const ENDINGS = { pdf: "pdf", csv: "csv", "camt.053": "xml" } as const;

const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** 2026-11 as "November 2026". */
function monthName(month: string): string {
  const [year = 0, number = 1] = month.split("-").map(Number);
  return new Intl.DateTimeFormat(locale(), { month: "long", year: "numeric" }).format(new Date(year, number - 1, 1));
}

function lastMonths(now: Date): string[] {
  return Array.from({ length: MONTHS }, (_, ago) => {
    const first = new Date(now.getFullYear(), now.getMonth() - ago, 1);
    return `${first.getFullYear()}-${String(first.getMonth() + 1).padStart(2, "0")}`;
  });
}

export function StatementsScreen() {
  const wallet = useWallet();
  const months = lastMonths(new Date());
  const years = [...new Set(months.map((month) => month.slice(0, 4)))];
  return (
    <Screen title={d("statements")} back={to("more")}>
      <Loaded resource={wallet} rows={1}>
        {(found) => {
          const currency = found.accounts[0]?.currency ?? "";
          return (
            <>
              <Section title={d("statements.months")}>
                <ul class="card list">
                  {months.map((month) => (
                    <li key={month}>
                      <Row
                        href={to("statements", month, { currency })}
                        start={
                          <span class="row-icon">
                            <Icon name="calendar" />
                          </span>
                        }
                        title={monthName(month)}
                        end={<Icon name="next" size={18} />}
                      />
                    </li>
                  ))}
                </ul>
              </Section>
              <Section title={d("statements.years")}>
                <ul class="card list">
                  {years.map((year) => (
                    <li key={year}>
                      <Row
                        href={to("year", year, { currency })}
                        start={
                          <span class="row-icon">
                            <Icon name="chart" />
                          </span>
                        }
                        title={year}
                        end={<Icon name="next" size={18} />}
                      />
                    </li>
                  ))}
                </ul>
              </Section>
            </>
          );
        }}
      </Loaded>
    </Screen>
  );
}

function Currencies(props: { chosen: string; href: (currency: string) => string }) {
  const wallet = useWallet();
  const all = (wallet.value?.accounts ?? []).map((each) => each.currency);
  if (all.length < 2) return null;
  return (
    <Choice
      label={t("currency")}
      value={props.chosen}
      onChange={(currency) => {
        location.hash = props.href(currency);
      }}
      options={all.map((each) => [each, each] as const)}
    />
  );
}

export function StatementScreen() {
  const { api } = useHome();
  const route = useRoute();
  const month = route.path[1] ?? "";
  const currency = route.query.get("currency") ?? "";
  const statement = useResource(`statement ${month} ${currency}`, () =>
    answer(api.GET("/statements/{month}", { params: { path: { month }, query: { currency, tz: zone() } } })),
  );
  return (
    <Screen title={monthName(month)} back={to("statements")}>
      <Currencies chosen={currency} href={(other) => to("statements", month, { currency: other })} />
      <Loaded resource={statement} rows={4}>
        {(found) => <Statement month={month} statement={found} />}
      </Loaded>
    </Screen>
  );
}

function Statement({ month, statement }: { month: string; statement: StatementJson }) {
  const { tokens } = useHome();
  const nameOf = useNames();
  const deed = useDeed();
  const { currency } = statement;
  const language = chosenLanguage() ?? preferred(navigator.languages);
  return (
    <>
      <dl class="card facts">
        <Fact name={d("statement.before")}>
          <Amount money={{ amount: statement.opening, currency }} />
        </Fact>
        <Fact name={d("statement.after")}>
          <Amount money={{ amount: statement.closing, currency }} />
        </Fact>
      </dl>
      {statement.partly_archived && (
        <Notice icon="warn" kind="warn">
          <p>{d("statement.archived")}</p>
        </Notice>
      )}
      <div class="pair" role="group" aria-label={d("statement.files")}>
        {FILES.filter((format) => format !== "camt.053" || currency.length === 3).map((format) => (
          <Button
            key={format}
            icon="file"
            busy={deed.busy === format}
            onClick={() => {
              const query = new URLSearchParams({ currency, format, tz: zone(), language });
              const name = `statement-${month}-${currency}.${ENDINGS[format]}`;
              void deed.run(format, () => download(tokens, `statements/${month}/file?${query}`, name));
            }}
          >
            {format.toUpperCase()}
          </Button>
        ))}
      </div>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {statement.lines.length === 0 ? (
        <Empty icon="calendar" title={d("statement.empty")} />
      ) : (
        <ul class="card list">
          {statement.lines.map((line) => (
            <li key={line.entry}>
              <Row
                title={<bdi>{line.other == null ? d(kindName(line.kind)) : nameOf(line.other)}</bdi>}
                below={<bdi>{[dateTime(line.ts), line.memo].filter(Boolean).join(" · ")}</bdi>}
                end={
                  <>
                    <span class={line.change > 0 ? "in" : ""}>
                      <Amount money={{ amount: line.change, currency }} sign />
                    </span>
                    <small>
                      <Amount money={{ amount: line.balance, currency }} />
                    </small>
                  </>
                }
              />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function kindName(kind: string): Name {
  const name = `kind.${kind}`;
  return name in KINDS ? (name as Name) : "kind.other";
}

const KINDS: Readonly<Record<string, true>> = {
  "kind.payment": true,
  "kind.refund": true,
  "kind.returned": true,
  "kind.issued": true,
  "kind.burned": true,
  "kind.correction": true,
  "kind.fee": true,
};

export function YearScreen() {
  const { api } = useHome();
  const route = useRoute();
  const year = Number(route.path[1] ?? 0);
  const currency = route.query.get("currency") ?? "";
  const summary = useResource(`summary ${year} ${currency}`, () =>
    answer(api.GET("/summaries/{year}", { params: { path: { year: String(year) }, query: { currency, tz: zone() } } })),
  );
  return (
    <Screen title={d("year", { year: String(year) })} back={to("statements")}>
      <Currencies chosen={currency} href={(other) => to("year", String(year), { currency: other })} />
      <Loaded resource={summary} rows={4}>
        {(found) => <Year summary={found} />}
      </Loaded>
    </Screen>
  );
}

function Year({ summary }: { summary: SummaryJson }) {
  const money = useMoney();
  const nameOf = useNames();
  const { currency } = summary;
  const highest = Math.max(1, ...summary.months.flatMap((month) => [month.came_in, month.went_out]));
  const name = (place: number) =>
    new Intl.DateTimeFormat(locale(), { month: "short" }).format(new Date(summary.year, place, 1));
  return (
    <>
      <dl class="card facts">
        <Fact name={d("year.in")}>
          <Amount money={{ amount: summary.total.came_in, currency }} />
        </Fact>
        <Fact name={d("year.out")}>
          <Amount money={{ amount: summary.total.went_out, currency }} />
        </Fact>
        <Fact name={d("statement.after")}>
          <Amount money={{ amount: summary.closing, currency }} />
        </Fact>
      </dl>
      <Section title={d("year.months")}>
        <table class="card months">
          <thead>
            <tr>
              <th scope="col">{d("year.month")}</th>
              <th scope="col">{d("year.in")}</th>
              <th scope="col">{d("year.out")}</th>
            </tr>
          </thead>
          <tbody>
            {summary.months.map((month, place) => (
              <tr key={place} class={month.count === 0 ? "none" : ""}>
                <th scope="row">{name(place)}</th>
                <td>
                  <meter class="in" min={0} max={highest} value={month.came_in} aria-hidden="true" />
                  {money({ amount: month.came_in, currency })}
                </td>
                <td>
                  <meter class="out" min={0} max={highest} value={month.went_out} aria-hidden="true" />
                  {money({ amount: month.went_out, currency })}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Section>
      {summary.people.length > 0 && (
        <Section title={d("year.people")}>
          <ul class="card list">
            {summary.people.map((person) => (
              <li key={person.user_id}>
                <Row
                  title={<bdi>{nameOf(person.user_id ?? "")}</bdi>}
                  below={d("year.count", { n: person.count })}
                  end={
                    <>
                      <span class="in">
                        <Amount money={{ amount: person.came_in, currency }} sign />
                      </span>
                      <Amount money={{ amount: -person.went_out, currency }} sign />
                    </>
                  }
                />
              </li>
            ))}
          </ul>
        </Section>
      )}
    </>
  );
}

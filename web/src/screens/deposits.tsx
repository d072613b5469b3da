// Deposits of strangers: what one asks, and those that wait for a word.

import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import { Amount, Avatar, Button, dateTime, Empty, Failure, Loaded, Row, Screen, Section } from "../parts/basics.tsx";
import { useDeed } from "../parts/compose.tsx";
import { useNames } from "../parts/payments.tsx";
import { OwnDeposit } from "../parts/prices.tsx";
import { useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { DepositJson } from "../schema.ts";
import { d } from "../text/deeds.ts";

export function DepositsScreen() {
  const { api } = useHome();
  const deposits = useResource("deposits", () => answer(api.GET("/deposits")), 8_000);
  return (
    <Screen title={d("deposits")} back={to("more")}>
      <Section title={d("deposits.waiting")}>
        <Loaded resource={deposits} rows={2}>
          {(page) =>
            page.deposits.length === 0 ? (
              <Empty icon="shield" title={d("deposits.none")}>
                <p>{d("deposits.none.hint")}</p>
              </Empty>
            ) : (
              <ul class="card list">
                {page.deposits.map((each) => (
                  <li key={each.payer + each.deposit_id}>
                    <Deposit deposit={each} />
                  </li>
                ))}
              </ul>
            )
          }
        </Loaded>
      </Section>
      <OwnDeposit />
    </Screen>
  );
}

function Deposit({ deposit }: { deposit: DepositJson }) {
  const { api } = useHome();
  const nameOf = useNames();
  const deed = useDeed("deposits", "wallet", "payment");
  const params = { path: { deposit_id: deposit.deposit_id }, query: { payer: deposit.payer } };
  const open = deposit.state === "open";
  return (
    <>
      <Row
        href={to("person", deposit.payer)}
        start={<Avatar name={deposit.payer} icon="shield" />}
        title={<bdi>{nameOf(deposit.payer)}</bdi>}
        below={
          deposit.state === "open"
            ? d("deposit.until", { date: dateTime(deposit.until_ts) })
            : d(`deposit.state.${deposit.state}`)
        }
        end={<Amount money={deposit} />}
      />
      {open && (
        <div class="pair">
          <Button
            icon="check"
            busy={deed.busy === "accept"}
            onClick={() => deed.run("accept", () => answer(api.POST("/deposits/{deposit_id}/accept", { params })))}
          >
            {d("deposit.give_back")}
          </Button>
          <Button
            kind="danger"
            icon="close"
            busy={deed.busy === "spam"}
            onClick={() => deed.run("spam", () => answer(api.POST("/deposits/{deposit_id}/spam", { params })))}
          >
            {d("deposit.keep")}
          </Button>
        </div>
      )}
      {deed.problem !== null && <Failure problem={deed.problem} />}
    </>
  );
}

// Money under a link: making one, handing it out, taking it back, and claiming what somebody else has put there.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome, useMoney, useWallet } from "../home.ts";
import {
  Amount,
  Avatar,
  Button,
  CopyButton,
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
} from "../parts/basics.tsx";
import { Fact, MemoField, PersonField, useAmount, useDeed, useNumber, useProof } from "../parts/compose.tsx";
import { useNames } from "../parts/payments.tsx";
import { QrCode } from "../parts/qr.tsx";
import { useResource } from "../resources.ts";
import { go, to, useRoute } from "../route.ts";
import type { LinkJson, Wallet } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";

export function MoneyLinksScreen() {
  const { api } = useHome();
  const nameOf = useNames();
  const links = useResource("claims", () => answer(api.GET("/claims", { params: { query: { limit: 50 } } })));
  return (
    <Screen
      title={d("links")}
      back={to("more")}
      action={
        <LinkButton href={to("money-link")} icon="plus">
          {d("link.make")}
        </LinkButton>
      }
    >
      <Loaded resource={links} rows={2}>
        {(page) =>
          page.claims.length === 0 ? (
            <Empty icon="link" title={d("links.none")}>
              <p>{d("links.none.hint")}</p>
            </Empty>
          ) : (
            <ul class="card list">
              {page.claims.map((link) => (
                <li key={link.claim_id}>
                  <Row
                    href={to("money-links", link.claim_id)}
                    start={<Avatar name={link.to ?? link.memo ?? "?"} icon="link" />}
                    title={<bdi>{link.to == null ? (link.memo ?? d("link")) : nameOf(link.to)}</bdi>}
                    below={d(`link.${link.state}`)}
                    end={<Amount money={link} />}
                  />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
      <p class="centre">
        <a href={to("claim")}>{d("claim.have")}</a>
      </p>
    </Screen>
  );
}

export function MakeLinkScreen() {
  const wallet = useWallet();
  return (
    <Screen title={d("link.make")} back={to("money-links")}>
      <Loaded resource={wallet}>{(found) => <MakeForm wallet={found} />}</Loaded>
    </Screen>
  );
}

function MakeForm({ wallet }: { wallet: Wallet }) {
  const { api } = useHome();
  const money = useMoney();
  const [tried, setTried] = useState(false);
  const [memo, setMemo] = useState("");
  const [whom, setWhom] = useState("");
  const { amount, currency, field } = useAmount(
    wallet.accounts.map((each) => each.currency),
    tried,
  );
  const deed = useDeed("claims", "wallet");
  const claimer = whom.trim();
  const proof = useProof(
    deed.problem,
    amount === null ? null : { ...(claimer === "" ? {} : { payee: claimer }), amount, currency },
  );
  const numberOf = useNumber();
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (amount === null) return;
        const wish = {
          amount,
          currency,
          ...(memo.trim() === "" ? {} : { memo: memo.trim() }),
          ...(whom.trim() === "" ? {} : { to: whom.trim() }),
        };
        const body = { claim_id: numberOf(wish), ...wish, ...proof.take() };
        const link = await deed.run("make", () => answer(api.POST("/claims", { body })));
        if (link !== null) go(to("money-links", link.claim_id));
      }}
    >
      <p class="hint">{d("link.explained")}</p>
      {field}
      <MemoField value={memo} hint={d("link.memo")} onInput={setMemo} />
      <PersonField
        id="whom"
        label={d("link.whom")}
        hint={d("link.whom.hint")}
        example="@bob:example.org"
        value={whom}
        onInput={setWhom}
      />
      {proof.field}
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide icon="link" busy={deed.busy !== null}>
        {amount === null ? d("link.make") : d("link.put", { amount: money({ amount, currency }) })}
      </Button>
    </form>
  );
}

export function MoneyLinkScreen() {
  const { api } = useHome();
  const claimId = useRoute().path[1] ?? "";
  const link = useResource(
    `claims ${claimId}`,
    () => answer(api.GET("/claims/{claim_id}", { params: { path: { claim_id: claimId } } })),
    4_000,
  );
  return (
    <Screen title={d("link")} back={to("money-links")}>
      <Loaded resource={link} rows={3}>
        {(found) => <MoneyLink link={found} />}
      </Loaded>
    </Screen>
  );
}

function MoneyLink({ link }: { link: LinkJson }) {
  const { api } = useHome();
  const nameOf = useNames();
  const deed = useDeed("claims", "wallet");
  const open = link.state === "open";
  return (
    <>
      <div class="card hero code">
        {open && link.link != null && <QrCode text={link.link} label={d("link.code")} />}
        <Amount money={link} large />
        {link.memo != null && (
          <p class="memo">
            <bdi>{link.memo}</bdi>
          </p>
        )}
        <p class={`state ${link.state === "claimed" ? "good" : open ? "open" : "over"}`} role="status">
          {d(`link.${link.state}`)}
        </p>
        {open && link.link != null && (
          <>
            <p class="hint">{d("link.cash")}</p>
            <div class="pair">
              <CopyButton text={link.link} label={t("receive.copy_link")} />
            </div>
          </>
        )}
      </div>
      {link.told === false && (
        <Notice icon="warn" kind="warn">
          <p>{d("link.untold", { name: link.to ?? "" })}</p>
        </Notice>
      )}
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {open && (
        <Button
          busy={deed.busy !== null}
          onClick={() =>
            deed.run("cancel", () =>
              answer(api.POST("/claims/{claim_id}/cancel", { params: { path: { claim_id: link.claim_id } } })),
            )
          }
        >
          {t("payment.cancel")}
        </Button>
      )}
      <dl class="card facts">
        {link.to != null && (
          <Fact name={d("link.for")}>
            <Handle handle={link.to} />
          </Fact>
        )}
        {link.claimed_by != null && (
          <Fact name={d("link.claimed_by")}>
            <a href={to("person", link.claimed_by)}>
              <bdi>{nameOf(link.claimed_by)}</bdi>
            </a>
          </Fact>
        )}
        <Fact name={t("payment.made")}>{dateTime(link.created_ts)}</Fact>
        <Fact name={t("payment.waits_until")}>{dateTime(link.expires_ts)}</Fact>
      </dl>
    </>
  );
}

/** Where links of others lead, and where one can bring one. */
export function ClaimScreen() {
  const route = useRoute();
  const given = route.query.get("link") ?? "";
  const [typed, setTyped] = useState("");
  const [asked, setAsked] = useState(given);
  return (
    <Screen title={d("claim")} back={to("more")}>
      {asked === "" ? (
        <form
          class="compose"
          onSubmit={(event) => {
            event.preventDefault();
            setAsked(typed.trim());
          }}
        >
          <Field id="link" label={d("claim.link")} hint={d("claim.link.hint")}>
            <input
              id="link"
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              aria-describedby="link-hint"
              value={typed}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          </Field>
          <Button kind="main" type="submit" wide>
            {d("claim.look")}
          </Button>
        </form>
      ) : (
        <Found link={asked} />
      )}
    </Screen>
  );
}

function Found({ link }: { link: string }) {
  const { api, session } = useHome();
  const nameOf = useNames();
  const money = useMoney();
  const deed = useDeed("wallet", "payment", "claims");
  const found = useResource(`claims look ${link}`, () => answer(api.POST("/claims/look", { body: { link } })));
  const [got, setGot] = useState<LinkJson | null>(null);
  return (
    <Loaded resource={found} rows={2}>
      {(seen) => {
        const mine = got?.mine ?? seen.mine ?? null;
        return (
          <>
            <div class={`envelope ${mine === null && seen.state === "open" ? "closed" : "opened"}`}>
              <p class="envelope-from">
                <bdi>{d("claim.from", { name: nameOf(seen.payer) })}</bdi>
              </p>
              {seen.memo != null && (
                <p class="envelope-memo">
                  <bdi>{seen.memo}</bdi>
                </p>
              )}
              <div class="envelope-got" role="status">
                <Amount money={seen} large />
                <p>{mine !== null ? d(`gift.mine.${mine.state}`) : d(`claim.${seen.state}`)}</p>
              </div>
            </div>
            {deed.problem !== null && <Failure problem={deed.problem} />}
            {mine === null && seen.state === "open" && seen.payer !== session.userId && (
              <Button
                kind="main"
                wide
                icon="check"
                busy={deed.busy !== null}
                onClick={async () =>
                  setGot(await deed.run("claim", () => answer(api.POST("/claims/redeem", { body: { link } }))))
                }
              >
                {d("claim.take", { amount: money(seen) })}
              </Button>
            )}
            {mine?.state === "paid" && (
              <LinkButton href={to("payment", mine.payment_id, { payer: seen.payer })}>{t("outcome.look")}</LinkButton>
            )}
          </>
        );
      }}
    </Loaded>
  );
}

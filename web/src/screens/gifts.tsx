// Gifts: money that the people of a room claim in shares. Giving one, opening one, and who got what.

import { useState } from "preact/hooks";
import { answer, matrix } from "../api.ts";
import { checkDraw, type Verdict } from "../draw.ts";
import { useHome, useMoney, useWallet } from "../home.ts";
import {
  Amount,
  Avatar,
  Button,
  Choice,
  dateTime,
  Empty,
  Failure,
  Field,
  LinkButton,
  Loaded,
  Notice,
  Row,
  Screen,
  Section,
  Skeleton,
} from "../parts/basics.tsx";
import { Fact, MemoField, Progress, useAmount, useDeed, useNumber, useProof } from "../parts/compose.tsx";
import { Icon } from "../parts/icons.tsx";
import { useNames } from "../parts/payments.tsx";
import { roomName, RoomField } from "../parts/rooms.tsx";
import { useResource } from "../resources.ts";
import { type Room, type RoomGift, useRooms } from "../rooms.ts";
import { go, to, useRoute } from "../route.ts";
import type { GiftJson, Wallet } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";

const SHARES_MAX = 500;

function giftAddress(giftId: string, giver: string, me: string): string {
  return to("gift", giftId, giver === me ? {} : { giver });
}

export function GiftsScreen() {
  const { api, session } = useHome();
  const nameOf = useNames();
  const rooms = useRooms();
  const given = useResource("gifts", () => answer(api.GET("/gifts", { params: { query: { limit: 50 } } })));
  const around = (rooms.value ?? [])
    .flatMap((room) => room.gifts.map((gift): [Room, RoomGift] => [room, gift]))
    .filter(([, gift]) => gift.giver !== session.userId)
    .sort(([, one], [, other]) => other.sentMs - one.sentMs);
  return (
    <Screen
      title={d("gifts")}
      back={to("more")}
      action={
        <LinkButton href={to("give")} icon="gift">
          {d("gift.give")}
        </LinkButton>
      }
    >
      {rooms.value === undefined && rooms.problem === undefined && <Skeleton rows={1} />}
      {around.length > 0 && (
        <Section title={d("gifts.around")}>
          <ul class="card list">
            {around.map(([room, gift]) => (
              <li key={gift.giver + gift.giftId}>
                <Row
                  href={giftAddress(gift.giftId, gift.giver, session.userId)}
                  start={<Avatar name={gift.giver} icon="gift" />}
                  title={<bdi>{d("gift.from", { name: nameOf(gift.giver) })}</bdi>}
                  below={<bdi>{[roomName(room, nameOf), gift.memo].filter(Boolean).join(" · ")}</bdi>}
                  end={<Icon name="next" size={18} />}
                />
              </li>
            ))}
          </ul>
        </Section>
      )}
      <Loaded resource={given} rows={2}>
        {(page) =>
          page.gifts.length > 0 ? (
            <Section title={d("gifts.given")}>
              <ul class="card list">
                {page.gifts.map((gift) => (
                  <li key={gift.gift_id}>
                    <Row
                      href={giftAddress(gift.gift_id, gift.giver, session.userId)}
                      start={<Avatar name={gift.giver} icon="gift" />}
                      title={<bdi>{gift.memo ?? d("gift")}</bdi>}
                      below={`${d(`gift.${gift.state}`)} · ${d("gift.claimed", { n: gift.claims.length, of: gift.shares })}`}
                      end={<Amount money={gift} />}
                    />
                  </li>
                ))}
              </ul>
            </Section>
          ) : (
            around.length === 0 &&
            rooms.value !== undefined && (
              <Empty icon="gift" title={d("gifts.none")}>
                <p>{d("gifts.none.hint")}</p>
              </Empty>
            )
          )
        }
      </Loaded>
    </Screen>
  );
}

export function GiveScreen() {
  const wallet = useWallet();
  const rooms = useRooms();
  return (
    <Screen title={d("gift.give")} back={to("gifts")}>
      <Loaded resource={rooms}>
        {(found) => <Loaded resource={wallet}>{(has) => <GiveForm rooms={found} wallet={has} />}</Loaded>}
      </Loaded>
    </Screen>
  );
}

function GiveForm({ rooms, wallet }: { rooms: readonly Room[]; wallet: Wallet }) {
  const { api, session } = useHome();
  const money = useMoney();
  const route = useRoute();
  const open = rooms.filter((room) => !room.encrypted);
  const [roomId, setRoomId] = useState(route.query.get("room") ?? open[0]?.roomId ?? "");
  const room = open.find((each) => each.roomId === roomId);
  const [tried, setTried] = useState(false);
  const [typedShares, setShares] = useState("");
  const [split, setSplit] = useState<"random" | "equal">("random");
  const [memo, setMemo] = useState("");
  const { amount, currency, field } = useAmount(
    wallet.accounts.map((each) => each.currency),
    tried,
  );
  const deed = useDeed("gifts", "wallet", "rooms");
  const proof = useProof(deed.problem, amount === null ? null : { amount, currency });
  const numberOf = useNumber();
  // One for each of the others, unless somebody says otherwise.
  const shares = typedShares === "" ? Math.max(1, Math.min(SHARES_MAX, (room?.members ?? 2) - 1)) : Number(typedShares);
  const right = Number.isInteger(shares) && shares >= 1 && shares <= SHARES_MAX;
  const available = wallet.accounts.find((each) => each.currency === currency);
  if (open.length === 0)
    return (
      <Empty icon="gift" title={d("rooms.none")}>
        <p>{d("rooms.none.hint")}</p>
      </Empty>
    );
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (amount === null || !right || room === undefined) return;
        const wish = {
          room_id: roomId,
          amount,
          currency,
          shares,
          split,
          ...(memo.trim() === "" ? {} : { memo: memo.trim() }),
        };
        const body = { gift_id: numberOf(wish), ...wish, ...proof.take() };
        const gift = await deed.run("give", () => answer(api.POST("/gifts", { body })));
        if (gift !== null) go(giftAddress(gift.gift_id, gift.giver, session.userId));
      }}
    >
      <RoomField label={d("gift.room")} rooms={open} value={roomId} onChange={setRoomId} />
      {field}
      {available !== undefined && (
        <p class="hint">{t("amount.available", { available: money({ amount: available.available, currency }) })}</p>
      )}
      <Field
        id="shares"
        label={d("gift.shares")}
        hint={d("gift.shares.hint")}
        fault={right ? undefined : d("gift.shares.wrong", { most: SHARES_MAX })}
      >
        <input
          id="shares"
          inputMode="numeric"
          autocomplete="off"
          aria-describedby="shares-hint"
          placeholder={String(shares)}
          value={typedShares}
          onInput={(event) => setShares(event.currentTarget.value.trim())}
        />
      </Field>
      <Choice
        label={d("gift.split")}
        value={split}
        onChange={setSplit}
        options={[
          ["random", d("gift.random")],
          ["equal", d("gift.equal")],
        ]}
      />
      <p class="hint">{split === "random" ? d("gift.random.hint") : d("gift.equal.hint")}</p>
      <MemoField value={memo} hint={d("gift.memo")} onInput={setMemo} />
      {proof.field}
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide icon="gift" busy={deed.busy !== null}>
        {amount === null ? d("gift.give") : d("gift.give_amount", { amount: money({ amount, currency }) })}
      </Button>
    </form>
  );
}

export function GiftScreen() {
  const { api } = useHome();
  const route = useRoute();
  const giftId = route.path[1] ?? "";
  const giver = route.query.get("giver");
  const params = { path: { gift_id: giftId }, query: giver === null ? {} : { giver } };
  const gift = useResource(
    `gifts ${giver ?? ""} ${giftId}`,
    () => answer(api.GET("/gifts/{gift_id}", { params })),
    4_000,
  );
  return (
    <Screen title={d("gift")} back={to("gifts")}>
      <Loaded resource={gift} rows={3}>
        {(found) => <Gift gift={found} />}
      </Loaded>
    </Screen>
  );
}

function Gift({ gift }: { gift: GiftJson }) {
  const { api, session, widget } = useHome();
  const nameOf = useNames();
  const deed = useDeed("gifts", "wallet", "payment");
  const [opened, setOpened] = useState(false);
  const given = gift.giver === session.userId;
  const mine = gift.mine ?? null;
  const forMe = gift.for == null || gift.for === session.userId;
  const toOpen = gift.state === "open" && mine === null && !given && forMe && gift.shares_left > 0 && widget === null;
  const claims = [...gift.claims].sort((one, other) => other.claimed_ts - one.claimed_ts);
  return (
    <>
      <div class={`envelope ${toOpen ? "closed" : "opened"}${opened ? " now" : ""}`}>
        <p class="envelope-from">
          <bdi>{given ? d("gift.yours") : d("gift.from", { name: nameOf(gift.giver) })}</bdi>
        </p>
        {gift.memo != null && (
          <p class="envelope-memo">
            <bdi>{gift.memo}</bdi>
          </p>
        )}
        {toOpen ? (
          <button
            type="button"
            class="seal"
            aria-busy={deed.busy !== null}
            aria-disabled={deed.busy !== null || undefined}
            onClick={async () => {
              if (deed.busy !== null) return;
              const path = { gift_id: gift.gift_id };
              const params = { path, query: { giver: gift.giver } };
              const got = await deed.run("claim", () => answer(api.POST("/gifts/{gift_id}/claim", { params })));
              setOpened(got !== null);
            }}
          >
            {deed.busy === null ? d("gift.open_it") : <span class="spinner" aria-hidden="true" />}
          </button>
        ) : (
          <div class="envelope-got" role="status">
            {mine !== null ? (
              <>
                <Amount money={{ amount: mine.amount, currency: gift.currency }} large />
                <p>{d(`gift.mine.${mine.state}`)}</p>
              </>
            ) : (
              <>
                <Amount money={gift} large />
                <p>{given ? d(`gift.${gift.state}`) : d(forMe ? "gift.missed" : "gift.not_yours")}</p>
              </>
            )}
          </div>
        )}
      </div>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {mine?.state === "paid" && (
        <LinkButton href={to("payment", mine.payment_id, { payer: gift.giver })}>{t("outcome.look")}</LinkButton>
      )}
      <Section title={d("gift.who")}>
        <div class="card prose">
          <p>{d("gift.claimed", { n: gift.claims.length, of: gift.shares })}</p>
          <Progress label={d("gift.who")} done={gift.claims.length} of={gift.shares} />
        </div>
        {claims.length > 0 && (
          <ul class="card list">
            {claims.map((claim) => (
              <li key={claim.user_id}>
                <Row
                  start={<Avatar name={claim.user_id} />}
                  title={<bdi>{nameOf(claim.user_id)}</bdi>}
                  below={dateTime(claim.claimed_ts)}
                  end={
                    <>
                      <Amount money={{ amount: claim.amount, currency: gift.currency }} />
                      {gift.luckiest === claim.user_id && <span class="luckiest">{d("gift.luckiest")}</span>}
                    </>
                  }
                />
              </li>
            ))}
          </ul>
        )}
      </Section>
      {given && gift.state === "open" && widget === null && (
        <Button
          busy={deed.busy === "cancel"}
          onClick={() =>
            deed.run("cancel", () =>
              answer(api.POST("/gifts/{gift_id}/cancel", { params: { path: { gift_id: gift.gift_id } } })),
            )
          }
        >
          {d("gift.take_back")}
        </Button>
      )}
      {gift.reveal != null && <Reveal gift={gift} />}
      <dl class="card facts">
        <Fact name={d("gift.split")}>{gift.split === "random" ? d("gift.random") : d("gift.equal")}</Fact>
        <Fact name={d("gift.left")}>
          <Amount money={{ amount: gift.left, currency: gift.currency }} />
        </Fact>
        <Fact name={gift.state === "open" ? t("payment.waits_until") : d("gift.ended")}>
          {dateTime(gift.expires_ts)}
        </Fact>
      </dl>
    </>
  );
}

/** Whoever does not want to believe the draw computes it. */
function Reveal({ gift }: { gift: GiftJson }) {
  const { tokens, widget } = useHome();
  const deed = useDeed();
  const [verdict, setVerdict] = useState<Verdict | null>(null);
  const reveal = gift.reveal;
  if (reveal == null) return null;
  const check = async (): Promise<Verdict> => {
    let commitment = gift.commitment;
    if (gift.event_id != null && widget === null) {
      // What the room was told at first, not what is said of it now.
      const path = `v3/rooms/${encodeURIComponent(gift.room_id)}/event/${encodeURIComponent(gift.event_id)}`;
      const content = (await matrix(tokens, "GET", path)).content as { commitment?: unknown };
      commitment = String(content.commitment);
    }
    return checkDraw(
      {
        giftId: gift.gift_id,
        amount: gift.amount,
        shares: gift.shares,
        split: gift.split,
        salt: reveal.salt,
        drawn: reveal.shares,
        claims: gift.claims,
      },
      commitment,
    );
  };
  return (
    <Section title={d("draw")}>
      <div class="card prose">
        <p>{d("draw.explained")}</p>
        <p class="drawn">
          {reveal.shares.map((share, place) => (
            <span key={place}>
              <Amount money={{ amount: share, currency: gift.currency }} />
            </span>
          ))}
        </p>
        <div role="status">
          {verdict !== null && (
            <Notice icon={verdict === "honest" ? "check" : "warn"} kind={verdict === "honest" ? "good" : "warn"}>
              <p>{d(`draw.${verdict}`)}</p>
            </Notice>
          )}
        </div>
        {deed.problem !== null && <Failure problem={deed.problem} />}
        <Button
          kind="quiet"
          icon="shield"
          busy={deed.busy !== null}
          onClick={async () => setVerdict(await deed.run("check", check))}
        >
          {d("draw.check")}
        </Button>
      </div>
    </Section>
  );
}

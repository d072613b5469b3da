// Asking for money: one person, several who split it, or a room that collects towards a goal.

import { useState } from "preact/hooks";
import { answer, matrix } from "../api.ts";
import { useHome, useMoney, useWallet } from "../home.ts";
import { parseAmount } from "../money.ts";
import {
  Amount,
  Avatar,
  Button,
  Choice,
  Empty,
  Failure,
  Handle,
  LinkButton,
  Loaded,
  Row,
  Screen,
  Section,
  Switch,
} from "../parts/basics.tsx";
import { MemoField, useAmount, useDeed, useNumber } from "../parts/compose.tsx";
import { Icon } from "../parts/icons.tsx";
import { FindPerson } from "../parts/people.tsx";
import { useNames } from "../parts/payments.tsx";
import { roomName, RoomField } from "../parts/rooms.tsx";
import { type Room, type RoomCollection, useRooms } from "../rooms.ts";
import { go, to, useRoute } from "../route.ts";
import type { RequestJson, Wallet } from "../schema.ts";
import { type How, readShares, splitAmount } from "../splits.ts";
import { d } from "../text/deeds.ts";
import { locale, t } from "../text/index.ts";

function addressOf(request: RequestJson): string {
  return to("asked", request.request_id);
}

export function AskScreen() {
  const wallet = useWallet();
  const asked = useRoute().query.get("to");
  if (asked === null)
    return (
      <Screen title={t("request")} back={to("requests")}>
        <FindPerson label={t("request.whom")} href={(person) => to("request", { to: person.handle })} focus />
        <div class="pair">
          <LinkButton href={to("split")} icon="people">
            {d("split")}
          </LinkButton>
          <LinkButton href={to("collect")} icon="goal">
            {d("collect")}
          </LinkButton>
        </div>
      </Screen>
    );
  return (
    <Screen title={t("request")} back={to("request")}>
      <Loaded resource={wallet}>{(found) => <AskForm asked={asked} wallet={found} />}</Loaded>
    </Screen>
  );
}

function AskForm({ asked, wallet }: { asked: string; wallet: Wallet }) {
  const { api } = useHome();
  const [memo, setMemo] = useState("");
  const [tried, setTried] = useState(false);
  const deed = useDeed("requests");
  const numberOf = useNumber();
  const { amount, currency, field } = useAmount(
    wallet.accounts.map((each) => each.currency),
    tried,
  );
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (amount === null) {
          document.getElementById("amount")?.focus();
          return;
        }
        const wish = { from: [asked], amount, currency, ...(memo.trim() === "" ? {} : { memo: memo.trim() }) };
        const body = { request_id: numberOf(wish), ...wish };
        const request = await deed.run("ask", () => answer(api.POST("/requests", { body })));
        if (request !== null) go(addressOf(request));
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
      {field}
      <MemoField value={memo} hint={t("memo.hint")} onInput={setMemo} />
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide busy={deed.busy !== null} icon="ask">
        {t("request.ask")}
      </Button>
    </form>
  );
}

/** Splits are asked for in a room, so that everybody sees the same card; without one each is asked in one's direct room. */
export function SplitScreen() {
  const wallet = useWallet();
  return (
    <Screen title={d("split")} back={to("requests")}>
      <Loaded resource={wallet}>{(found) => <SplitForm wallet={found} />}</Loaded>
    </Screen>
  );
}

function SplitForm({ wallet }: { wallet: Wallet }) {
  const { api, session, tokens } = useHome();
  const money = useMoney();
  const rooms = useRooms();
  const route = useRoute();
  const open = (rooms.value ?? []).filter((room) => !room.encrypted && room.members > 1);
  const [roomId, setRoomId] = useState(route.query.get("room") ?? "");
  const room = roomId === "" ? open[0] : open.find((each) => each.roomId === roomId);
  const [people, setPeople] = useState<readonly string[]>([]);
  const [adding, setAdding] = useState(false);
  const [how, setHow] = useState<How>("equal");
  const [withMe, setWithMe] = useState(true);
  const [typed, setTyped] = useState<Readonly<Record<string, string>>>({});
  const [memo, setMemo] = useState("");
  const [tried, setTried] = useState(false);
  const deed = useDeed("requests");
  const numberOf = useNumber();
  const { amount, currency, scale, field } = useAmount(
    wallet.accounts.map((each) => each.currency),
    tried,
  );
  const own = session.userId;
  const read = (text: string) => {
    const found = how === "amounts" ? parseAmount(text, scale, locale()) : readShares(text);
    return typeof found === "number" ? found : null;
  };
  const parts = people.map((each) => read(typed[each] ?? (how === "shares" ? "1" : "")));
  const mine = how === "shares" ? read(typed[own] ?? "1") : withMe ? 1 : 0;
  const split = amount === null ? null : splitAmount(amount, how, parts, mine);
  const wrong = tried && amount !== null && split === null ? d("split.wrong") : undefined;
  const shown = (value: number | undefined) =>
    value === undefined ? null : <Amount money={{ amount: value, currency }} />;
  return (
    <form
      class="compose"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setTried(true);
        if (amount === null || split === null || people.length === 0 || room === undefined) return;
        const wish = {
          from: [...people],
          amount,
          currency,
          room_id: room.roomId,
          ...(memo.trim() === "" ? {} : { memo: memo.trim() }),
          split:
            how === "equal"
              ? { how, mine: withMe ? 1 : 0 }
              : how === "shares"
                ? { how, parts: parts.map((each) => each ?? 0), mine: mine ?? 0 }
                : { how, parts: parts.map((each) => each ?? 0), mine: 0 },
        };
        const body = { request_id: numberOf(wish), goal: false, ...wish };
        const request = await deed.run("split", () => answer(api.POST("/requests", { body })));
        if (request !== null) go(addressOf(request));
      }}
    >
      {field}
      <MemoField value={memo} hint={d("split.memo")} onInput={setMemo} />
      {rooms.value !== undefined && open.length === 0 ? (
        <Empty icon="people" title={d("rooms.none")}>
          <p>{d("rooms.none.hint")}</p>
        </Empty>
      ) : (
        <RoomField
          label={d("split.room")}
          rooms={open}
          value={room?.roomId ?? ""}
          onChange={(chosen) => {
            setRoomId(chosen);
            setPeople([]);
          }}
        />
      )}
      <Choice<How>
        label={d("split.how")}
        value={how}
        onChange={(chosen) => {
          setHow(chosen);
          setTyped({});
        }}
        options={[
          ["equal", d("split.equal")],
          ["shares", d("split.shares")],
          ["amounts", d("split.amounts")],
        ]}
      />
      <ul class="card list" aria-label={d("split.people")}>
        {people.map((person, place) => (
          <li key={person}>
            <div class="row">
              <Avatar name={person} />
              <span class="row-text">
                <Handle handle={person} />
              </span>
              {how !== "equal" && (
                <input
                  class="part"
                  inputMode={how === "shares" ? "numeric" : "decimal"}
                  autocomplete="off"
                  aria-label={d(how === "shares" ? "split.shares_of" : "split.amount_of", { name: person })}
                  value={typed[person] ?? (how === "shares" ? "1" : "")}
                  onInput={(event) => setTyped({ ...typed, [person]: event.currentTarget.value })}
                />
              )}
              {how !== "amounts" && <span class="row-end">{shown(split?.parts[place])}</span>}
              <button
                type="button"
                class="round small"
                aria-label={d("split.leave_out", { name: person })}
                onClick={() => setPeople(people.filter((each) => each !== person))}
              >
                <Icon name="close" size={18} />
              </button>
            </div>
          </li>
        ))}
        <li>
          <div class="row">
            <Avatar name={own} />
            <span class="row-text">
              <b>{t("you")}</b>
            </span>
            {how === "shares" && (
              <input
                class="part"
                inputMode="numeric"
                autocomplete="off"
                aria-label={d("split.shares_of", { name: t("you") })}
                value={typed[own] ?? "1"}
                onInput={(event) => setTyped({ ...typed, [own]: event.currentTarget.value })}
              />
            )}
            <span class="row-end">{shown(split?.mine)}</span>
          </div>
        </li>
      </ul>
      {how === "equal" && <Switch label={d("split.with_me")} on={withMe} onChange={setWithMe} />}
      <div class="pair">
        {room !== undefined && (
          <Button icon="people" onClick={async () => setPeople(await membersOf(room))}>
            {d("split.everybody")}
          </Button>
        )}
        <Button icon="plus" onClick={() => setAdding(!adding)}>
          {d("split.add")}
        </Button>
      </div>
      {adding && (
        <FindPerson
          label={d("split.add")}
          focus
          onChoose={(person) => {
            const chosen = person.userId ?? person.handle;
            if (chosen !== own && !people.includes(chosen)) setPeople([...people, chosen]);
            setAdding(false);
          }}
        />
      )}
      {tried && people.length === 0 && (
        <p class="fault" role="alert">
          {d("split.nobody")}
        </p>
      )}
      {wrong !== undefined && people.length > 0 && (
        <p class="fault" role="alert">
          {wrong}
        </p>
      )}
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide busy={deed.busy !== null} icon="ask">
        {amount === null || split === null
          ? d("split.ask")
          : d("split.ask_amount", { amount: money({ amount: amount - split.mine, currency }) })}
      </Button>
    </form>
  );

  async function membersOf(of: Room): Promise<string[]> {
    const path = `v3/rooms/${encodeURIComponent(of.roomId)}/joined_members`;
    const found = await deed.run("members", () => matrix(tokens, "GET", path));
    return Object.keys((found?.joined as object | undefined) ?? {}).filter((each) => each !== own);
  }
}

export function CollectScreen() {
  const wallet = useWallet();
  const rooms = useRooms();
  return (
    <Screen title={d("collect")} back={to("requests")}>
      <Loaded resource={rooms}>
        {(found) => (
          <>
            <Collections rooms={found} />
            <Loaded resource={wallet}>{(has) => <CollectForm rooms={found} wallet={has} />}</Loaded>
          </>
        )}
      </Loaded>
    </Screen>
  );
}

/** What is collected for in one's rooms; nobody is asked for it by name. */
function Collections({ rooms }: { rooms: readonly Room[] }) {
  const { session } = useHome();
  const nameOf = useNames();
  const found = rooms
    .flatMap((room) => room.collections.map((each): [Room, RoomCollection] => [room, each]))
    .sort(([, one], [, other]) => other.sentMs - one.sentMs);
  if (found.length === 0) return null;
  return (
    <Section title={d("collect.around")}>
      <ul class="card list">
        {found.map(([room, each]) => (
          <li key={each.requester + each.requestId}>
            <Row
              href={to("asked", each.requestId, each.requester === session.userId ? {} : { requester: each.requester })}
              start={<Avatar name={each.requester} icon="goal" />}
              title={<bdi>{each.memo ?? d("collect.by", { name: nameOf(each.requester) })}</bdi>}
              below={<bdi>{`${nameOf(each.requester)} · ${roomName(room, nameOf)}`}</bdi>}
              end={<Amount money={each} />}
            />
          </li>
        ))}
      </ul>
    </Section>
  );
}

function CollectForm({ rooms, wallet }: { rooms: readonly Room[]; wallet: Wallet }) {
  const { api } = useHome();
  const route = useRoute();
  const open = rooms.filter((room) => !room.encrypted && room.members > 1);
  const [roomId, setRoomId] = useState(route.query.get("room") ?? open[0]?.roomId ?? "");
  const [memo, setMemo] = useState("");
  const [tried, setTried] = useState(false);
  const deed = useDeed("requests");
  const numberOf = useNumber();
  const { amount, currency, field } = useAmount(
    wallet.accounts.map((each) => each.currency),
    tried,
    d("collect.goal"),
  );
  if (open.length === 0)
    return (
      <Empty icon="goal" title={d("rooms.none")}>
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
        if (amount === null) return;
        const wish = {
          amount,
          currency,
          room_id: roomId,
          goal: true,
          ...(memo.trim() === "" ? {} : { memo: memo.trim() }),
        };
        const request = await deed.run("collect", () =>
          answer(api.POST("/requests", { body: { request_id: numberOf(wish), ...wish } })),
        );
        if (request !== null) go(addressOf(request));
      }}
    >
      <p class="hint">{d("collect.explained")}</p>
      {field}
      <MemoField value={memo} hint={d("split.memo")} onInput={setMemo} />
      <RoomField label={d("split.room")} rooms={open} value={roomId} onChange={setRoomId} />
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <Button kind="main" type="submit" wide busy={deed.busy !== null} icon="goal">
        {d("collect.begin")}
      </Button>
    </form>
  );
}

// What one asks oneself of those whom one does not know: so much for a minute of a call, so much as a deposit.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { amountIn } from "../fares.ts";
import { useHome, useMoney } from "../home.ts";
import { CALL_POLICY } from "../policy.ts";
import { useResource } from "../resources.ts";
import type { PolicyJson } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { Button, Failure, Field, Loaded, Section, Switch } from "./basics.tsx";
import { type Deed, PersonField, useAmount, useDeed } from "./compose.tsx";

/** The price of a minute. It stands in the call policy, whose form is therefore read anew. */
export function OwnPrice() {
  const { api, about } = useHome();
  const money = useMoney();
  const price = useResource("call_price", () => answer(api.GET("/call_price")));
  const [tried, setTried] = useState(false);
  const deed = useDeed("call_price", `policy ${CALL_POLICY}`);
  const { amount, currency, field } = useAmount(
    about.assets.map((each) => each.code),
    tried,
    d("own_price.amount"),
  );
  return (
    <Section title={d("own_price")}>
      <Loaded resource={price} rows={1}>
        {(found) => {
          const now = amountIn({ ...found });
          return (
            <form
              class="card prose"
              noValidate
              onSubmit={(event) => {
                event.preventDefault();
                setTried(true);
                if (amount === null) return;
                void deed.run("set", () => answer(api.PUT("/call_price", { body: { amount, currency } })));
              }}
            >
              <p role="status">
                {now === null
                  ? d("own_price.none")
                  : d(found.per === "minute" ? "own_price.now" : "own_price.ring", { price: money(now) })}
              </p>
              <p class="hint">{d("own_price.hint")}</p>
              {field}
              <AskOrDrop
                deed={deed}
                ask={d("own_price.ask")}
                drop={now === null ? null : d("own_price.drop")}
                onDrop={() => answer(api.DELETE("/call_price"))}
              />
            </form>
          );
        }}
      </Loaded>
    </Section>
  );
}

/** What strangers put down before they write or ring. */
export function OwnDeposit() {
  const { api } = useHome();
  const policy = useResource("deposit_policy", () => answer(api.GET("/deposit_policy")));
  return (
    <Section title={d("own_deposit")}>
      <Loaded resource={policy} rows={1}>
        {(found) => <DepositForm key={JSON.stringify(found)} policy={found} />}
      </Loaded>
    </Section>
  );
}

const DAYS_MAX = 30;

function DepositForm({ policy }: { policy: PolicyJson }) {
  const { api, about } = useHome();
  const money = useMoney();
  const [days, setDays] = useState(policy.days ?? 7);
  const [rooms, setRooms] = useState(policy.shared_rooms ?? false);
  const [spamTo, setSpamTo] = useState(policy.spam_to ?? "");
  const [tried, setTried] = useState(false);
  const deed = useDeed("deposit_policy");
  const now = amountIn({ ...policy });
  const { amount, currency, field } = useAmount(
    about.assets.map((each) => each.code),
    tried && now === null,
    d("own_deposit.amount"),
  );
  return (
    <form
      class="card prose"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setTried(true);
        // Without another amount the one that stands goes on, with what else was changed.
        const asked = amount === null ? now : { amount, currency };
        if (asked === null) return;
        const to = spamTo.trim();
        const body = { ...asked, days, shared_rooms: rooms, ...(to === "" ? {} : { spam_to: to }) };
        void deed.run("set", () => answer(api.PUT("/deposit_policy", { body })));
      }}
    >
      <p role="status">{now === null ? d("own_deposit.none") : d("own_deposit.now", { amount: money(now) })}</p>
      <p class="hint">{d("own_deposit.hint")}</p>
      {field}
      <Field id="days" label={d("own_deposit.days")}>
        <input
          id="days"
          type="number"
          min={1}
          max={DAYS_MAX}
          value={days}
          onInput={(event) => setDays(Math.min(DAYS_MAX, Math.max(1, Math.trunc(Number(event.currentTarget.value)))))}
        />
      </Field>
      <PersonField
        id="spam-to"
        label={d("own_deposit.spam_to")}
        hint={d("own_deposit.spam_to.hint")}
        example="@charity:example.org"
        value={spamTo}
        onInput={setSpamTo}
      />
      <Switch
        label={d("own_deposit.rooms")}
        below={d("own_deposit.rooms.hint")}
        on={rooms}
        onChange={(on) => setRooms(on)}
      />
      <AskOrDrop
        deed={deed}
        ask={d("own_deposit.ask")}
        drop={now === null ? null : d("own_deposit.drop")}
        onDrop={() => answer(api.DELETE("/deposit_policy"))}
      />
    </form>
  );
}

/** The foot of a form for something that one asks for until one drops it; `drop` is null while nothing is asked. */
function AskOrDrop(props: { deed: Deed; ask: string; drop: string | null; onDrop: () => Promise<unknown> }) {
  const { deed } = props;
  return (
    <>
      <div class="pair">
        <Button kind="main" type="submit" busy={deed.busy === "set"}>
          {props.ask}
        </Button>
        {props.drop !== null && (
          <Button busy={deed.busy === "drop"} onClick={() => deed.run("drop", props.onDrop)}>
            {props.drop}
          </Button>
        )}
      </div>
      {deed.problem !== null && <Failure problem={deed.problem} />}
    </>
  );
}

// What guards the wallet: the PIN, the limits, and the button for a lost phone.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import { Amount, Ask, Button, dateTime, Failure, Loaded, Notice, Screen, Section, Switch } from "../parts/basics.tsx";
import { PinField, useDeed } from "../parts/compose.tsx";
import { useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { SafeguardsJson } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";
import { Passkeys } from "./passkeys.tsx";

export function SafetyScreen() {
  const { api } = useHome();
  const safeguards = useResource("safeguards", () => answer(api.GET("/wallet/safeguards")));
  return (
    <Screen title={d("safety")} back={to("more")}>
      <Loaded resource={safeguards} rows={3}>
        {(found) => (
          <>
            {found.locked_since !== null && found.locked_since !== undefined ? (
              <Locked safeguards={found} />
            ) : (
              <LostPhone />
            )}
            {found.careful_until != null && (
              <Notice icon="clock" kind="warn">
                <p>{d("safety.careful", { date: dateTime(found.careful_until) })}</p>
              </Notice>
            )}
            <Pin safeguards={found} />
            {found.pin_set && found.locked_since == null && <Passkeys />}
            {found.limits.length > 0 && <Limits safeguards={found} />}
          </>
        )}
      </Loaded>
    </Screen>
  );
}

/** One button, since whoever needs it is in a hurry. */
function LostPhone() {
  const { api, leave } = useHome();
  const [asking, setAsking] = useState(false);
  const [stillIn, setStillIn] = useState(false);
  const deed = useDeed("safeguards", "wallet");
  const lock = async () => {
    const lost = await deed.run("lock", () => answer(api.POST("/wallet/lost")));
    if (lost === null) return;
    if (lost.sessions_ended) {
      // All others have ended; this one goes too, since it may be the phone itself.
      await leave();
      return;
    }
    // Where sign-in is delegated, the account service ends sessions.
    setAsking(false);
    setStillIn(true);
  };
  return (
    <Section title={d("lost")}>
      <div class="card prose">
        <p>{d("lost.explained")}</p>
        {stillIn && (
          <Notice icon="warn" kind="warn">
            <p>{d("lost.sessions_stay")}</p>
          </Notice>
        )}
        <Button kind="danger" icon="lock" onClick={() => setAsking(true)}>
          {d("lost.button")}
        </Button>
      </div>
      {asking && (
        <Ask title={d("lost.sure")} onClose={() => setAsking(false)}>
          <p>{d("lost.what")}</p>
          {deed.problem !== null && <Failure problem={deed.problem} />}
          <div class="pair">
            <Button kind="danger" icon="lock" busy={deed.busy !== null} onClick={lock}>
              {d("lost.do")}
            </Button>
            <Button onClick={() => setAsking(false)}>{t("close")}</Button>
          </div>
        </Ask>
      )}
    </Section>
  );
}

function Locked({ safeguards }: { safeguards: SafeguardsJson }) {
  const { api } = useHome();
  const [pin, setPin] = useState("");
  const deed = useDeed("safeguards", "wallet");
  return (
    <Section title={d("locked")}>
      <div class="card prose">
        <Notice icon="lock" kind="warn">
          <p>{d("locked.since", { date: dateTime(safeguards.locked_since ?? 0) })}</p>
        </Notice>
        {safeguards.pin_set && (
          <form
            class="stack"
            onSubmit={(event) => {
              event.preventDefault();
              void deed.run("pin", () => answer(api.POST("/wallet/unlock", { body: { pin } })));
            }}
          >
            <PinField value={pin} onInput={setPin} />
            <Button kind="main" type="submit" busy={deed.busy === "pin"}>
              {d("locked.unlock")}
            </Button>
          </form>
        )}
        <Button
          kind={safeguards.pin_set ? "quiet" : "main"}
          busy={deed.busy === "fresh"}
          onClick={() => deed.run("fresh", () => answer(api.POST("/wallet/unlock/fresh")))}
        >
          {d(safeguards.pin_set ? "locked.fresh" : "locked.unlock")}
        </Button>
        <p class="hint">{d("locked.fresh.hint")}</p>
        {deed.problem !== null && <Failure problem={deed.problem} />}
      </div>
    </Section>
  );
}

function Pin({ safeguards }: { safeguards: SafeguardsJson }) {
  const { api } = useHome();
  const [pin, setPin] = useState("");
  const [current, setCurrent] = useState("");
  const [saved, setSaved] = useState<"set" | "asked" | "dropped" | null>(null);
  const deed = useDeed("safeguards");
  const done = (what: typeof saved, gave: unknown) => {
    if (gave === null) return;
    setSaved(what);
    setPin("");
    setCurrent("");
  };
  return (
    <Section title={d("pin.title")}>
      <form
        class="card prose"
        onSubmit={async (event) => {
          event.preventDefault();
          setSaved(null);
          const body = safeguards.pin_set ? { pin, current } : { pin };
          done("set", await deed.run("set", () => answer(api.PUT("/wallet/pin", { body }))));
        }}
      >
        <p>{d(safeguards.pin_set ? "pin.is_set" : "pin.explained")}</p>
        {safeguards.pin_locked_until != null && (
          <Notice icon="lock" kind="warn">
            <p>{d("pin.locked", { date: dateTime(safeguards.pin_locked_until) })}</p>
          </Notice>
        )}
        {safeguards.pin_set && <PinField id="current" label={d("pin.current")} value={current} onInput={setCurrent} />}
        <PinField id="new" label={d("pin.new")} value={pin} onInput={setPin} />
        <div class="pair">
          <Button kind="main" type="submit" busy={deed.busy === "set"}>
            {d(safeguards.pin_set ? "pin.change" : "pin.set")}
          </Button>
          {safeguards.pin_set && (
            <Button
              busy={deed.busy === "drop"}
              onClick={async () => done("dropped", await deed.run("drop", () => answer(api.DELETE("/wallet/pin"))))}
            >
              {d("pin.forgotten")}
            </Button>
          )}
        </div>
        {safeguards.pin_set && (
          <Switch
            label={d("pin.new_payee")}
            below={d("pin.new_payee.hint")}
            on={safeguards.pin_new_payee}
            busy={deed.busy !== null}
            onChange={async (on) =>
              done(
                "asked",
                await deed.run("ask", () =>
                  answer(api.PUT("/wallet/safeguards", { body: { pin: current, new_payee: on } })),
                ),
              )
            }
          />
        )}
        <div role="status">
          {saved !== null && (
            <Notice icon="check" kind="good">
              <p>{t("saved")}</p>
            </Notice>
          )}
        </div>
        {deed.problem !== null && <Failure problem={deed.problem} />}
      </form>
    </Section>
  );
}

function Limits({ safeguards }: { safeguards: SafeguardsJson }) {
  return (
    <Section title={d("limits")}>
      <ul class="card list">
        {safeguards.limits.map((limit) => (
          <li key={`${limit.direction} ${limit.window} ${limit.currency}`}>
            <div class="row">
              <span class="row-text">
                <span class="row-title">{d(`limit.${limit.direction}`)}</span>
                <span class="row-below">{d(`window.${limit.window}`)}</span>
              </span>
              <span class="row-end">
                <Amount money={{ amount: limit.limit, currency: limit.currency }} />
                {limit.window !== "payment" && (
                  <small>
                    {d("limit.used")} <Amount money={{ amount: limit.used, currency: limit.currency }} />
                  </small>
                )}
              </span>
            </div>
          </li>
        ))}
      </ul>
    </Section>
  );
}

// A new link into a call: what it is for, when it is open, who decides who comes in.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { DAYS, type Day, type Fault, NO_TERMS, type Terms, termsOf, WORKDAYS } from "../call-terms.ts";
import { useHome } from "../home.ts";
import { Button, Failure, Field, Notice, Options, Screen, Switch } from "../parts/basics.tsx";
import { useAmount, useDeed } from "../parts/compose.tsx";
import { go, to } from "../route.ts";
import { c } from "../text/calling.ts";
import { d } from "../text/deeds.ts";
import { locale } from "../text/index.ts";

const MONDAY_MS = Date.UTC(2024, 0, 1);
const DAY_MS = 86_400_000;

export function NewCallLinkScreen() {
  const { api, about } = useHome();
  const [terms, setTerms] = useState<Terms>(NO_TERMS);
  const [fault, setFault] = useState<Fault | null>(null);
  const deed = useDeed("call_links");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const set = (changed: Partial<Terms>) => {
    setTerms({ ...terms, ...changed });
    setFault(null);
  };
  const hasServer = about.call_server != null;
  const [paid, setPaid] = useState(false);
  const [tried, setTried] = useState(false);
  const { amount, currency, field } = useAmount(
    about.assets.map((each) => each.code),
    tried,
    d("own_price.amount"),
  );
  return (
    <Screen title={c("new_link")} back={to("calls")}>
      <form
        class="card prose"
        onSubmit={async (event) => {
          event.preventDefault();
          setTried(true);
          if (paid && amount === null) return;
          const price = paid && amount !== null ? { amount, currency } : null;
          const body = termsOf({ ...terms, price }, zone);
          if (typeof body === "string") {
            setFault(body);
            return;
          }
          const made = await deed.run("make", () => answer(api.POST("/call_links", { body })));
          if (made !== null) go(made.room_id == null ? to("calls") : to("room-call", made.room_id));
        }}
      >
        <Field id="link-title" label={c("link.title")} hint={c("link.title.hint")}>
          <input
            id="link-title"
            maxLength={200}
            aria-describedby="link-title-hint"
            value={terms.title}
            onInput={(event) => set({ title: event.currentTarget.value })}
          />
        </Field>
        {hasServer ? (
          <Options<Terms["kind"]>
            label={c("link.kind")}
            value={terms.kind}
            onChange={(kind) => set({ kind })}
            options={[
              ["call", c("link.kind.call"), c("link.kind.call.hint")],
              ["live", c("link.kind.live"), c("link.kind.live.hint")],
            ]}
          />
        ) : (
          <Notice icon="phone">
            <p>{c("link.live.needs")}</p>
          </Notice>
        )}
        <Switch
          label={c("link.waiting")}
          below={c("link.waiting.hint")}
          on={terms.waiting}
          onChange={(waiting) => set({ waiting })}
        />
        <Field
          id="link-max"
          label={c("link.max")}
          hint={c(hasServer ? "link.max.hint" : "link.max.mesh")}
          fault={fault === "most" ? c("link.max.wrong") : undefined}
        >
          <input
            id="link-max"
            inputMode="numeric"
            aria-describedby="link-max-hint"
            value={terms.most}
            onInput={(event) => set({ most: event.currentTarget.value })}
          />
        </Field>
        <div class="pair">
          <Field id="link-from" label={c("link.from")}>
            <input
              id="link-from"
              type="datetime-local"
              value={terms.from}
              onChange={(event) => set({ from: event.currentTarget.value })}
            />
          </Field>
          <Field id="link-until" label={c("link.until")} fault={fault === "order" ? c("link.order") : undefined}>
            <input
              id="link-until"
              type="datetime-local"
              value={terms.until}
              onChange={(event) => set({ until: event.currentTarget.value })}
            />
          </Field>
        </div>
        <Switch
          label={c("link.hours")}
          below={c("link.hours.hint", { zone })}
          on={terms.hours !== null}
          onChange={(on) => set({ hours: on ? { from: "09:00", to: "17:00", days: WORKDAYS } : null })}
        />
        {terms.hours !== null && <Hours hours={terms.hours} fault={fault} onChange={(hours) => set({ hours })} />}
        {about.features.includes("payments") && (
          <Switch label={d("link.price")} below={d("link.price.hint")} on={paid} onChange={(on) => setPaid(on)} />
        )}
        {paid && field}
        {deed.problem !== null && <Failure problem={deed.problem} />}
        <Button kind="main" type="submit" wide busy={deed.busy !== null}>
          {c("link.make")}
        </Button>
      </form>
    </Screen>
  );
}

function Hours(props: {
  hours: NonNullable<Terms["hours"]>;
  fault: Fault | null;
  onChange: (hours: NonNullable<Terms["hours"]>) => void;
}) {
  const { hours, onChange } = props;
  const name = new Intl.DateTimeFormat(locale(), { weekday: "short", timeZone: "UTC" });
  const toggle = (day: Day, on: boolean) =>
    onChange({ ...hours, days: on ? [...hours.days, day] : hours.days.filter((each) => each !== day) });
  return (
    <>
      <div class="pair">
        {(["from", "to"] as const).map((end) => (
          <Field key={end} id={`hours-${end}`} label={c(`link.hours.${end}`)}>
            <input
              id={`hours-${end}`}
              type="time"
              required
              value={hours[end]}
              onChange={(event) =>
                event.currentTarget.value !== "" && onChange({ ...hours, [end]: event.currentTarget.value })
              }
            />
          </Field>
        ))}
      </div>
      <fieldset class="days">
        <legend>{c("link.days")}</legend>
        {DAYS.map((day, index) => (
          <label key={day}>
            <input
              type="checkbox"
              checked={hours.days.includes(day)}
              onChange={(event) => toggle(day, event.currentTarget.checked)}
            />
            {name.format(MONDAY_MS + index * DAY_MS)}
          </label>
        ))}
      </fieldset>
      {props.fault === "days" && (
        <p class="fault" role="alert">
          {c("link.days.none")}
        </p>
      )}
    </>
  );
}

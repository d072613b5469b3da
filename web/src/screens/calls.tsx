// Calls that were, and who may ring.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import {
  Avatar,
  Button,
  day,
  Empty,
  Failure,
  Field,
  Loaded,
  Options,
  Row,
  Screen,
  Section,
  Switch,
  time,
} from "../parts/basics.tsx";
import { CallLinks } from "../parts/call-links.tsx";
import { Icon } from "../parts/icons.tsx";
import { useNames } from "../parts/payments.tsx";
import { Policy } from "../parts/policies.tsx";
import { OwnPrice } from "../parts/prices.tsx";
import { CALL_POLICY, type CallForm, type CallWho, changedKeys, readCallPolicy, writeCallPolicy } from "../policy.ts";
import { asProblem, type Problem } from "../problem.ts";
import { useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { CallEntry, Calls, PolicyChanges } from "../schema.ts";
import { type Key, locale, t } from "../text/index.ts";

export function CallsScreen() {
  const home = useHome();
  const newest = useResource(
    "calls",
    () => answer(home.api.GET("/calls", { params: { query: { limit: 30 } } })),
    15_000,
  );
  const [older, setOlder] = useState<Calls | null>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const next = older === null ? newest.value?.next : older.next;
  return (
    <Screen title={t("calls")}>
      <Section title={t("calls.history")}>
        <Loaded resource={newest} rows={4}>
          {(found) => {
            const calls = [...found.calls, ...(older?.calls ?? [])];
            return calls.length === 0 ? (
              <Empty icon="phone" title={t("calls.none")}>
                <p>{t("calls.none.hint")}</p>
              </Empty>
            ) : (
              <ul class="card list">
                {calls.map((call) => (
                  <li key={call.direction + call.call_id + call.peer}>
                    <CallRow call={call} />
                  </li>
                ))}
              </ul>
            );
          }}
        </Loaded>
        {problem !== null && <Failure problem={problem} />}
        {next !== undefined && next !== null && (
          <div class="centre">
            <Button
              busy={busy}
              onClick={async () => {
                setBusy(true);
                try {
                  const page = await answer(home.api.GET("/calls", { params: { query: { limit: 50, since: next } } }));
                  setOlder({ ...page, calls: [...(older?.calls ?? []), ...page.calls] });
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
      </Section>
      <CallLinks />
      {home.about.features.includes("payments") && <OwnPrice />}
      <Section title={t("calls.policy")}>
        <Policy
          type={CALL_POLICY}
          keep={(next, before) =>
            answer(home.api.PUT("/call_policy", { body: changedKeys(before, next) as PolicyChanges }))
          }
        >
          {(policy, save) => (
            <PolicyForm
              form={readCallPolicy(policy)}
              onChange={(form) => save(writeCallPolicy(policy, form, Intl.DateTimeFormat().resolvedOptions().timeZone))}
            />
          )}
        </Policy>
      </Section>
    </Screen>
  );
}

function CallRow({ call }: { call: CallEntry }) {
  const nameOf = useNames();
  const missed = call.direction === "incoming" && ["missed", "screened", "busy"].includes(call.outcome);
  const person = call.peer.startsWith("@");
  const outcome =
    call.outcome === "answered" && call.answer_ts != null && call.end_ts != null
      ? duration(call.end_ts - call.answer_ts)
      : t(`call.${call.outcome}` as Key);
  const screened =
    call.screened_by != null ? t("call.screened_by", { rule: t(`rule.${call.screened_by}` as Key) }) : null;
  return (
    <Row
      {...(person ? { href: to("person", call.peer_handle ?? call.peer) } : {})}
      start={<Avatar name={call.peer} icon={call.direction === "incoming" ? "receive" : "send"} />}
      title={
        <span class={missed ? "missed" : ""}>
          <bdi>{person ? nameOf(call.peer) : t("call.group")}</bdi>
        </span>
      }
      below={
        <>
          <Icon name={call.media === "video" ? "video" : "phone"} size={16} /> {screened ?? outcome}
        </>
      }
      end={
        <>
          <span class="when">{day(call.ring_ts)}</span>
          <small>{time(call.ring_ts)}</small>
        </>
      }
    />
  );
}

function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const unit = (value: number, name: string) =>
    new Intl.NumberFormat(locale(), { style: "unit", unit: name, unitDisplay: "short" }).format(value);
  return minutes === 0 ? unit(seconds, "second") : unit(minutes, "minute");
}

function PolicyForm({ form, onChange }: { form: CallForm; onChange: (form: CallForm) => void }) {
  return (
    <div class="card prose">
      <Options<CallWho>
        label={t("calls.who")}
        value={form.who}
        onChange={(who) => onChange({ ...form, who })}
        options={[
          ["everyone", t("calls.who.everyone"), t("calls.who.everyone.hint")],
          ["known", t("calls.who.known"), t("calls.who.known.hint")],
          ["contacts", t("calls.who.contacts"), t("calls.who.contacts.hint")],
          ["nobody", t("calls.who.nobody"), t("calls.who.nobody.hint")],
        ]}
      />
      <Switch
        label={t("calls.quiet")}
        below={t("calls.quiet.hint")}
        on={form.quiet !== null}
        onChange={(on) => onChange({ ...form, quiet: on ? { from: "22:00", to: "07:00" } : null })}
      />
      {form.quiet !== null && (
        <div class="pair">
          <Field id="quiet-from" label={t("calls.quiet.from")}>
            <input
              id="quiet-from"
              type="time"
              value={form.quiet.from}
              onChange={(event) =>
                event.currentTarget.value !== "" &&
                onChange({ ...form, quiet: { from: event.currentTarget.value, to: form.quiet?.to ?? "07:00" } })
              }
            />
          </Field>
          <Field id="quiet-to" label={t("calls.quiet.to")}>
            <input
              id="quiet-to"
              type="time"
              value={form.quiet.to}
              onChange={(event) =>
                event.currentTarget.value !== "" &&
                onChange({ ...form, quiet: { from: form.quiet?.from ?? "22:00", to: event.currentTarget.value } })
              }
            />
          </Field>
        </div>
      )}
      <Switch
        label={t("calls.silent")}
        below={t("calls.silent.hint")}
        on={form.refusal === "silent"}
        onChange={(on) => onChange({ ...form, refusal: on ? "silent" : "polite" })}
      />
    </div>
  );
}

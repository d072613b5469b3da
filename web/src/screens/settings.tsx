// Who may pay one, where the wallet opens, how the page looks, and the way out.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { scaleOf, useHome } from "../home.ts";
import { decimal, parseAmount } from "../money.ts";
import {
  Button,
  Choice,
  Failure,
  Field,
  LinkButton,
  Loaded,
  Notice,
  Options,
  Screen,
  Section,
  Switch,
} from "../parts/basics.tsx";
import { Policy } from "../parts/policies.tsx";
import { PAYMENT_POLICY, type PaymentForm, type PayWho, readPaymentPolicy, writePaymentPolicy } from "../policy.ts";
import { asProblem, type Problem } from "../problem.ts";
import { useResource } from "../resources.ts";
import { to } from "../route.ts";
import { chooseLanguage, chosenLanguage, LANGUAGES, type Language, locale, t } from "../text/index.ts";
import { chooseTheme, chosenTheme, type Theme } from "../theme.ts";
import { amountFault } from "./send.tsx";

export function SettingsScreen() {
  const { about, leave } = useHome();
  const [theme, setTheme] = useState(chosenTheme());
  const payments = about.features.includes("payments");
  return (
    <Screen title={t("settings")} back={to("me")}>
      {payments && (
        <Section title={t("paid")}>
          <Policy type={PAYMENT_POLICY}>
            {(policy, save) => (
              <PaidForm
                key={JSON.stringify(policy)}
                form={readPaymentPolicy(policy)}
                onChange={(form) => save(writePaymentPolicy(policy, form))}
              />
            )}
          </Policy>
        </Section>
      )}
      {payments && <OtherApps />}
      {about.features.includes("recovery") && (
        <Section title={t("recovery")}>
          <div class="card prose">
            <p>{t("recovery.hint")}</p>
            <LinkButton href="../recover/" icon="shield" wide>
              {t("recovery.open")}
            </LinkButton>
          </div>
        </Section>
      )}
      <Section title={t("look")}>
        <div class="card prose">
          <Choice<Theme>
            label={t("look.theme")}
            value={theme}
            onChange={(chosen) => {
              chooseTheme(chosen);
              setTheme(chosen);
            }}
            options={[
              ["system", t("look.system")],
              ["light", t("look.light")],
              ["dark", t("look.dark")],
            ]}
          />
          <Field id="language" label={t("look.language")}>
            <select
              id="language"
              onChange={(event) => {
                chooseLanguage(event.currentTarget.value === "" ? null : (event.currentTarget.value as Language));
                location.reload();
              }}
            >
              <option value="" selected={chosenLanguage() === null}>
                {t("look.browser")}
              </option>
              {Object.entries(LANGUAGES).map(([code, name]) => (
                <option key={code} value={code} lang={code} selected={chosenLanguage() === code}>
                  {name}
                </option>
              ))}
            </select>
          </Field>
        </div>
      </Section>
      <Section title={t("about")}>
        <div class="card prose">
          <p>
            {about.operator == null || about.licence == null
              ? t("about.credits", { assets: about.assets.map((asset) => asset.code).join(", ") })
              : t("about.custodial", { operator: about.operator, licence: about.licence })}
          </p>
          <p class="hint">
            {about.server_name} · {about.version}
          </p>
        </div>
      </Section>
      <div class="centre">
        <Button icon="out" kind="danger" onClick={leave}>
          {t("sign_out")}
        </Button>
      </div>
    </Screen>
  );
}

function PaidForm({ form, onChange }: { form: PaymentForm; onChange: (form: PaymentForm) => void }) {
  const { about } = useHome();
  const currency = form.minimum?.currency ?? about.assets[0]?.code ?? "";
  const scale = scaleOf(about, currency);
  const [typed, setTyped] = useState(form.minimum === null ? "" : decimal(form.minimum.amount, scale));
  const minimum = parseAmount(typed, scale, locale());
  return (
    <div class="card prose">
      <Options<PayWho>
        label={t("paid.who")}
        value={form.who}
        onChange={(who) => onChange({ ...form, who })}
        options={[
          ["everyone", t("paid.who.everyone"), t("paid.who.everyone.hint")],
          ["known", t("paid.who.known"), t("paid.who.known.hint")],
          ["contacts", t("paid.who.contacts"), t("paid.who.contacts.hint")],
          ["nobody", t("paid.who.nobody"), t("paid.who.nobody.hint")],
        ]}
      />
      <Switch
        label={t("paid.ask")}
        below={t("paid.ask.hint")}
        on={form.ask}
        onChange={(ask) => onChange({ ...form, ask })}
      />
      <Field
        id="minimum"
        label={t("paid.minimum", { currency })}
        hint={t("paid.minimum.hint")}
        fault={typeof minimum === "number" ? undefined : amountFault(minimum, scale)}
      >
        <input
          id="minimum"
          inputMode="decimal"
          autocomplete="off"
          aria-describedby="minimum-hint"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
          onChange={() => {
            if (typeof minimum === "number" && minimum > 0)
              onChange({ ...form, minimum: { amount: minimum, currency } });
            else if (minimum === "empty" || minimum === 0) onChange({ ...form, minimum: null });
          }}
        />
      </Field>
    </div>
  );
}

/** The wallet behind the sticker button of other clients, and the sessions that it has there. */
function OtherApps() {
  const { api } = useHome();
  const entry = useResource("widget", () => answer(api.GET("/widget")));
  const [busy, setBusy] = useState(false);
  const [ended, setEnded] = useState<number | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const attempt = async (deed: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await deed();
      await entry.again();
    } catch (thrown) {
      setProblem(asProblem(thrown));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Section title={t("other_apps")}>
      <Loaded resource={entry} rows={1}>
        {(found) => (
          <div class="card prose">
            <Switch
              label={t("other_apps.stickers")}
              below={t("other_apps.stickers.hint")}
              on={found.installed}
              busy={busy}
              onChange={(on) => void attempt(() => answer(on ? api.PUT("/widget") : api.DELETE("/widget")))}
            />
            <p class="hint">{t("other_apps.read_only")}</p>
            <Button
              kind="quiet"
              busy={busy}
              onClick={() =>
                attempt(async () => {
                  setEnded((await answer(api.DELETE("/sessions"))).ended);
                })
              }
            >
              {t("other_apps.end")}
            </Button>
            <div role="status">
              {ended !== null && (
                <Notice icon="check" kind="good">
                  <p>{t("other_apps.ended", { n: ended })}</p>
                </Notice>
              )}
            </div>
            {problem !== null && <Failure problem={problem} />}
          </div>
        )}
      </Loaded>
    </Section>
  );
}

// One's own code to be scanned, with or without an amount.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { scaleOf, useHome, useWallet } from "../home.ts";
import { matrixLink, paytoLink } from "../links.ts";
import { parseAmount } from "../money.ts";
import { Choice, CopyButton, Field, Handle, Loaded, Screen } from "../parts/basics.tsx";
import { QrCode } from "../parts/qr.tsx";
import { useResource } from "../resources.ts";
import { to } from "../route.ts";
import { locale, t } from "../text/index.ts";
import { amountFault } from "./send.tsx";

export function ReceiveScreen() {
  const { api, about, session } = useHome();
  const wallet = useWallet();
  const directory = about.features.includes("directory");
  const handles = useResource(directory ? "handles" : null, () => answer(api.GET("/handles")));
  const handle = handles.value?.handles.find((each) => each.primary)?.handle ?? session.userId;
  return (
    <Screen title={t("receive")} back={to()}>
      <Loaded resource={wallet}>
        {(found) => <Code handle={handle} currencies={found.accounts.map((each) => each.currency)} />}
      </Loaded>
    </Screen>
  );
}

function Code({ handle, currencies }: { handle: string; currencies: readonly string[] }) {
  const { about, session } = useHome();
  const [typed, setTyped] = useState("");
  const [memo, setMemo] = useState("");
  const [currency, setCurrency] = useState(currencies[0] ?? "");
  const scale = scaleOf(about, currency);
  const amount = parseAmount(typed, scale, locale());
  const wanted = typeof amount === "number" && amount > 0;
  const link = wanted ? paytoLink(handle, { amount, currency, scale, memo }) : matrixLink(session.userId);
  return (
    <>
      <div class="card hero code">
        <QrCode text={link} label={t("receive.code")} />
        <p class="hero-title">
          <Handle handle={handle} />
        </p>
        <p class="hint">{t("receive.hint")}</p>
        <div class="pair">
          <CopyButton text={handle} label={t("receive.copy_handle")} />
          <CopyButton text={link} label={t("receive.copy_link")} />
        </div>
      </div>
      <details class="card prose">
        <summary>{t("receive.amount")}</summary>
        {currencies.length > 1 && (
          <Choice
            label={t("currency")}
            value={currency}
            onChange={setCurrency}
            options={currencies.map((each) => [each, each] as const)}
          />
        )}
        <Field
          id="wanted"
          label={t("amount", { currency })}
          fault={typeof amount === "number" ? undefined : amountFault(amount, scale)}
        >
          <input
            id="wanted"
            inputMode="decimal"
            autocomplete="off"
            aria-describedby="wanted-hint"
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </Field>
        <Field id="for" label={t("memo")}>
          <input
            id="for"
            maxLength={100}
            autocomplete="off"
            value={memo}
            onInput={(event) => setMemo(event.currentTarget.value)}
          />
        </Field>
      </details>
    </>
  );
}

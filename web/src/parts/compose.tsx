// What forms for money are made of: an amount, a note, a PIN where one is asked for, and numbers that make asking again safe.

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { newPaymentId, scaleOf, useHome } from "../home.ts";
import { decimal, parseAmount } from "../money.ts";
import { type Confirmable, confirmWithPasskey, passkeyProblem, passkeysWork } from "../passkeys.ts";
import { asProblem, type Problem } from "../problem.ts";
import { refresh } from "../resources.ts";
import { amountFault } from "../screens/send.tsx";
import { d } from "../text/deeds.ts";
import { locale, t } from "../text/index.ts";
import { Button, Choice, Failure, Field } from "./basics.tsx";

const MEMO_MAX = 512;

export interface AmountEntry {
  /** Null while what is typed is no amount. */
  amount: number | null;
  currency: string;
  scale: number;
  field: ComponentChildren;
}

/** An amount in one of the currencies that there are. ``tried``: say also what is missing. */
export function useAmount(currencies: readonly string[], tried: boolean, label?: string): AmountEntry {
  const { about } = useHome();
  const [currency, setCurrency] = useState(currencies[0] ?? "");
  const [typed, setTyped] = useState("");
  const scale = scaleOf(about, currency);
  const amount = parseAmount(typed, scale, locale());
  const missing = tried ? (amount === 0 ? t("amount.zero") : t("amount.missing")) : undefined;
  const fault =
    typeof amount === "number" ? (amount === 0 ? missing : undefined) : (amountFault(amount, scale) ?? missing);
  const field = (
    <>
      {currencies.length > 1 && (
        <Choice
          label={t("currency")}
          value={currency}
          onChange={setCurrency}
          options={currencies.map((each) => [each, each] as const)}
        />
      )}
      <Field id="amount" label={label ?? t("amount", { currency })} fault={fault}>
        <input
          id="amount"
          class="amount-input"
          inputMode={scale === 0 ? "numeric" : "decimal"}
          autocomplete="off"
          placeholder={decimal(0, scale)}
          aria-describedby="amount-hint"
          aria-invalid={fault !== undefined}
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </Field>
    </>
  );
  return { amount: typeof amount === "number" && amount > 0 ? amount : null, currency, scale, field };
}

export function MemoField(props: { value: string; hint: string; onInput: (memo: string) => void }) {
  return (
    <Field id="memo" label={t("memo")} hint={props.hint}>
      <input
        id="memo"
        maxLength={MEMO_MAX}
        autocomplete="off"
        aria-describedby="memo-hint"
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </Field>
  );
}

/** Somebody by their Matrix id, who need not be known here. */
export function PersonField(props: {
  id: string;
  label: string;
  hint: string;
  example: string;
  value: string;
  onInput: (person: string) => void;
}) {
  return (
    <Field id={props.id} label={props.label} hint={props.hint}>
      <input
        id={props.id}
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        placeholder={props.example}
        aria-describedby={`${props.id}-hint`}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </Field>
  );
}

export function PinField(props: { id?: string; label?: string; value: string; onInput: (pin: string) => void }) {
  const id = props.id ?? "pin";
  return (
    <Field id={id} label={props.label ?? d("pin")}>
      <input
        id={id}
        type="password"
        inputMode="numeric"
        autocomplete="off"
        maxLength={8}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </Field>
  );
}

export interface ProofEntry {
  /** What goes beside the order. A passkey's answer is good for one try. */
  take: () => { pin?: string; passkey?: Record<string, unknown> };
  field: ComponentChildren;
}

/** The PIN of the wallet, or a passkey in its place, asked for once the homeserver wants it.
 *
 * ``about`` is what a passkey confirms; without a payee, money for whoever comes to claim it. Null: nothing yet.
 */
export function useProof(problem: Problem | null, about: Confirmable | null): ProofEntry {
  const home = useHome();
  const [pin, setPin] = useState("");
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<Problem | null>(null);
  const wanted = useRef(false);
  const passkey = useRef<Record<string, unknown> | null>(null);
  if (problem?.code.startsWith("PIN_") === true) wanted.current = true;
  const use = async (form: HTMLFormElement | null) => {
    if (about === null) return;
    setBusy(true);
    setFault(null);
    try {
      passkey.current = await confirmWithPasskey(home, about);
      form?.requestSubmit();
    } catch (thrown) {
      setFault(asProblem(passkeyProblem(thrown)));
    } finally {
      setBusy(false);
    }
  };
  return {
    take: () => {
      const given = passkey.current;
      passkey.current = null;
      if (given !== null) return { passkey: given };
      return pin === "" ? {} : { pin };
    },
    field: wanted.current && (
      <>
        <PinField value={pin} onInput={setPin} />
        {about !== null && passkeysWork() && (
          <Button wide icon="shield" busy={busy} onClick={(event) => void use(event.currentTarget.form)}>
            {t("confirm.passkey")}
          </Button>
        )}
        {fault !== null && <Failure problem={fault} />}
      </>
    ),
  };
}

/** One number for one wish: the same again must not be a second one, and another wish is another one. */
export function useNumber(): (wish: object) => string {
  const made = useRef({ id: newPaymentId(), wish: "" });
  return (wish) => {
    const text = JSON.stringify(wish);
    if (made.current.wish !== "" && made.current.wish !== text) made.current = { id: newPaymentId(), wish: text };
    else made.current.wish = text;
    return made.current.id;
  };
}

export interface Deed {
  busy: string | null;
  problem: Problem | null;
  /** What ``call`` gave; null if it did not succeed, and ``problem`` says why. */
  run: <T>(name: string, call: () => Promise<T>) => Promise<T | null>;
}

/** Something that a person does; what is shown of ``prefixes`` is asked for again afterwards. */
export function useDeed(...prefixes: string[]): Deed {
  const [busy, setBusy] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  return {
    busy,
    problem,
    run: async (name, call) => {
      setBusy(name);
      setProblem(null);
      try {
        return await call();
      } catch (thrown) {
        setProblem(asProblem(thrown));
        return null;
      } finally {
        setBusy(null);
        void refresh(...prefixes);
      }
    },
  };
}

/** How far something is, for eyes and for readers. */
export function Progress(props: { label: string; done: number; of: number }) {
  return (
    <progress class="progress" aria-label={props.label} value={Math.min(props.done, props.of)} max={props.of}>
      {Math.floor((100 * props.done) / props.of)} %
    </progress>
  );
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

// The two policies in private account data, as a form shows them. What this page does not know of is left as it is.

import type { Json } from "./api.ts";

export const CALL_POLICY = "org.superapp.call.policy";
export const PAYMENT_POLICY = "org.superapp.payment.policy";

export type CallWho = "everyone" | "known" | "contacts" | "nobody";

export interface CallForm {
  /** Null: a choice that this page has no word for, or none yet. */
  who: CallWho | null;
  quiet: { from: string; to: string } | null;
  refusal: "polite" | "silent";
}

const WHO: Readonly<Record<CallWho, readonly string[]>> = {
  everyone: ["everyone"],
  known: ["contacts", "shared_rooms"],
  contacts: ["contacts"],
  nobody: ["nobody"],
};

function same(one: readonly unknown[], other: readonly unknown[]): boolean {
  return one.length === other.length && one.every((each) => other.includes(each));
}

function window(policy: Json): { from: string; to: string } | null {
  const quiet = policy.quiet as { windows?: { from?: unknown; to?: unknown }[] } | undefined;
  const first = quiet?.windows?.[0];
  return typeof first?.from === "string" && typeof first.to === "string" ? { from: first.from, to: first.to } : null;
}

export function readCallPolicy(policy: Json | null): CallForm {
  const who = Array.isArray(policy?.who) ? policy.who : null;
  const known = (Object.keys(WHO) as CallWho[]).find((each) => who !== null && same(WHO[each], who));
  return {
    who: known ?? null,
    quiet: policy === null ? null : window(policy),
    refusal: policy?.refusal === "silent" ? "silent" : "polite",
  };
}

/** The policy with what the form says. Windows beyond the first, their days and repeats stay. */
export function writeCallPolicy(policy: Json | null, form: CallForm, timeZone: string): Json {
  const next: Json = { ...policy, v: 1, refusal: form.refusal };
  if (form.who !== null) next.who = [...WHO[form.who]];
  const quiet = (policy?.quiet ?? {}) as { time_zone?: string; windows?: Json[] };
  const [first, ...others] = quiet.windows ?? [];
  if (form.quiet !== null)
    next.quiet = {
      ...quiet,
      time_zone: quiet.time_zone ?? timeZone,
      windows: [{ ...first, ...form.quiet }, ...others],
    };
  else if (others.length > 0) next.quiet = { ...quiet, windows: others };
  else delete next.quiet;
  return next;
}

/** The keys of a policy that differ, null where one is gone: what a call that writes single keys takes. */
export function changedKeys(before: Json | null, next: Json): Json {
  const keys = new Set([...Object.keys(before ?? {}), ...Object.keys(next)]);
  const changed = [...keys].filter((key) => JSON.stringify(before?.[key]) !== JSON.stringify(next[key]));
  return Object.fromEntries(changed.map((key) => [key, next[key] ?? null]));
}

export type PayWho = "everyone" | "known" | "contacts" | "nobody";

export interface PaymentForm {
  who: PayWho | null;
  ask: boolean;
  minimum: { amount: number; currency: string } | null;
}

export function readPaymentPolicy(policy: Json | null): PaymentForm {
  const from = Array.isArray(policy?.from) ? policy.from : ["everyone"];
  const minimum = policy?.minimum as { amount?: unknown; currency?: unknown } | undefined;
  return {
    who: (Object.keys(WHO) as PayWho[]).find((each) => same(WHO[each], from)) ?? null,
    ask: policy?.accept === "ask",
    minimum:
      Number.isSafeInteger(minimum?.amount) && typeof minimum?.currency === "string"
        ? { amount: minimum.amount as number, currency: minimum.currency }
        : null,
  };
}

export function writePaymentPolicy(policy: Json | null, form: PaymentForm): Json {
  const next: Json = { ...policy, v: 1, accept: form.ask ? "ask" : "auto" };
  if (form.who !== null) next.from = [...WHO[form.who]];
  if (form.minimum === null) delete next.minimum;
  else next.minimum = form.minimum;
  return next;
}

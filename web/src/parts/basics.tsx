// What screens are made of.

import type { ComponentChildren, JSX, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { scaleOf, useHome } from "../home.ts";
import { splitHandle } from "../links.ts";
import { amountParts, formatMoney, type Money } from "../money.ts";
import type { Problem } from "../problem.ts";
import type { Resource } from "../resources.ts";
import { go } from "../route.ts";
import { locale, t } from "../text/index.ts";
import { Icon, type IconName } from "./icons.tsx";

let firstScreen = true;

/** For the field that a screen is there for: it has the focus as soon as it is shown. */
export function useFocus(wanted = true): {
  ref: RefObject<HTMLInputElement | null>;
  "data-focus": boolean | undefined;
} {
  const ref = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (wanted) ref.current?.focus({ preventScroll: true });
  }, []);
  return { ref, "data-focus": wanted || undefined };
}

/** A screen has one heading, which has the focus once one has come here from elsewhere. */
export function Screen(props: {
  title: string;
  back?: string;
  action?: ComponentChildren;
  children: ComponentChildren;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${props.title} – Super App`;
  }, [props.title]);
  useEffect(() => {
    if (!firstScreen && !heading.current?.parentElement?.parentElement?.querySelector("[data-focus]"))
      heading.current?.focus({ preventScroll: true });
    firstScreen = false;
    scrollTo(0, 0);
  }, []);
  return (
    <div class="screen">
      <header class="screen-head">
        {props.back !== undefined && (
          <a class="round" href={props.back} aria-label={t("back")}>
            <Icon name="back" />
          </a>
        )}
        <h1 ref={heading} tabIndex={-1}>
          {props.title}
        </h1>
        {props.action}
      </header>
      {props.children}
    </div>
  );
}

export function Section(props: { title: string; action?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="section">
      <div class="section-head">
        <h2>{props.title}</h2>
        {props.action}
      </div>
      {props.children}
    </section>
  );
}

/** ``size`` large cuts the fraction off visually; readers hear it whole. */
export function Amount({ money, sign = false, large = false }: { money: Money; sign?: boolean; large?: boolean }) {
  const { about } = useHome();
  const scale = scaleOf(about, money.currency);
  if (!large) return <span class="amount">{formatMoney(money, scale, locale(), sign)}</span>;
  const parts = amountParts(money, scale, locale(), sign);
  return (
    <span class="amount amount-large">
      {parts.whole}
      <small>
        {parts.fraction}
        {parts.after}
      </small>
    </span>
  );
}

export function Avatar({ name, icon }: { name: string; icon?: IconName }) {
  const letters = splitHandle(name).name.replace(/[^\p{L}\p{N}]/gu, "");
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 6;
  return (
    <span class={`avatar tint-${sum}`} aria-hidden="true">
      {[...letters][0]?.toUpperCase() ?? "?"}
      {icon !== undefined && (
        <span class="avatar-mark">
          <Icon name={icon} size={14} />
        </span>
      )}
    </span>
  );
}

/** A full handle or user id, its server set apart, never cut where it could deceive. */
export function Handle({ handle }: { handle: string }) {
  const { name, server } = splitHandle(handle);
  return (
    <bdi class="handle">
      @{name}
      {server !== "" && <span class="handle-server">:{server}</span>}
    </bdi>
  );
}

export function Button(
  props: {
    children: ComponentChildren;
    icon?: IconName;
    kind?: "main" | "plain" | "quiet" | "danger";
    busy?: boolean;
    wide?: boolean;
  } & Omit<JSX.IntrinsicElements["button"], "icon">,
) {
  const { children, icon, kind = "plain", busy = false, wide = false, ...rest } = props;
  return (
    <button
      type="button"
      {...rest}
      class={`button ${kind}${wide ? " wide" : ""}`}
      aria-busy={busy}
      aria-disabled={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : props.onClick}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon !== undefined && <Icon name={icon} size={20} />}
      <span>{children}</span>
    </button>
  );
}

export function LinkButton(props: {
  href: string;
  icon?: IconName;
  kind?: "main" | "plain" | "quiet";
  wide?: boolean;
  outside?: boolean;
  children: ComponentChildren;
}) {
  return (
    <a
      class={`button ${props.kind ?? "plain"}${props.wide ? " wide" : ""}`}
      href={props.href}
      {...(props.outside ? { target: "_blank", rel: "noopener" } : {})}
    >
      {props.icon !== undefined && <Icon name={props.icon} size={20} />}
      <span>{props.children}</span>
    </a>
  );
}

/** Something to read in place of what is not there. */
export function Empty(props: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={props.icon} size={28} />
      </span>
      <p class="empty-title">{props.title}</p>
      {props.children}
    </div>
  );
}

export function Failure({ problem, again }: { problem: Problem; again?: () => Promise<void> | void }) {
  const [busy, setBusy] = useState(false);
  return (
    <div class="notice bad" role="alert">
      <Icon name={problem.offline ? "offline" : "warn"} />
      <div>
        <p>{problem.message}</p>
        {again !== undefined && (
          <Button
            kind="quiet"
            busy={busy}
            onClick={async () => {
              setBusy(true);
              await again();
              setBusy(false);
            }}
          >
            {t("again")}
          </Button>
        )}
      </div>
    </div>
  );
}

export function Notice(props: { icon: IconName; kind?: "calm" | "warn" | "good"; children: ComponentChildren }) {
  return (
    <div class={`notice ${props.kind ?? "calm"}`}>
      <Icon name={props.icon} />
      <div>{props.children}</div>
    </div>
  );
}

/** What is known; else that it is on its way, or what went wrong. What is old is shown beside a later problem. */
export function Loaded<T>(props: { resource: Resource<T>; rows?: number; children: (value: T) => ComponentChildren }) {
  const { value, problem, again } = props.resource;
  if (value !== undefined) return <>{props.children(value)}</>;
  if (problem !== undefined) return <Failure problem={problem} again={again} />;
  return <Skeleton rows={props.rows ?? 3} />;
}

export function Skeleton({ rows }: { rows: number }) {
  return (
    <div class="skeleton" role="status">
      <span class="unseen">{t("loading")}</span>
      {Array.from({ length: rows }, (_, row) => (
        <div class="skeleton-row" key={row} aria-hidden="true">
          <i />
          <b />
        </div>
      ))}
    </div>
  );
}

export function Row(props: {
  href?: string;
  onClick?: () => void;
  start?: ComponentChildren;
  title: ComponentChildren;
  below?: ComponentChildren;
  end?: ComponentChildren;
  current?: boolean;
}) {
  const content = (
    <>
      {props.start}
      <span class="row-text">
        <span class="row-title">{props.title}</span>
        {props.below !== undefined && <span class="row-below">{props.below}</span>}
      </span>
      {props.end !== undefined && <span class="row-end">{props.end}</span>}
    </>
  );
  if (props.href !== undefined)
    return (
      <a class="row" href={props.href}>
        {content}
      </a>
    );
  if (props.onClick !== undefined)
    return (
      <button type="button" class="row" onClick={props.onClick}>
        {content}
      </button>
    );
  return <div class="row">{content}</div>;
}

export function Field(props: {
  label: string;
  hint?: string;
  fault?: string | undefined;
  id: string;
  children: ComponentChildren;
}) {
  return (
    <div class={props.fault === undefined ? "field" : "field wrong"}>
      <label for={props.id}>{props.label}</label>
      {props.children}
      {props.hint !== undefined && props.fault === undefined && (
        <p class="hint" id={`${props.id}-hint`}>
          {props.hint}
        </p>
      )}
      {props.fault !== undefined && (
        <p class="fault" id={`${props.id}-hint`} role="alert">
          {props.fault}
        </p>
      )}
    </div>
  );
}

/** One of few, as a row of buttons. */
export function Choice<T extends string>(props: {
  label: string;
  options: readonly (readonly [T, string])[];
  value: T;
  onChange: (value: T) => void;
}) {
  return (
    <fieldset class="choice">
      <legend class="unseen">{props.label}</legend>
      {props.options.map(([value, text]) => (
        <label key={value} class={value === props.value ? "chosen" : ""}>
          <input
            type="radio"
            name={props.label}
            checked={value === props.value}
            onChange={() => props.onChange(value)}
          />
          {text}
        </label>
      ))}
    </fieldset>
  );
}

/** One of few that need a word each. */
export function Options<T extends string>(props: {
  label: string;
  options: readonly (readonly [T, string, string])[];
  value: T | null;
  onChange: (value: T) => void;
}) {
  return (
    <fieldset class="options">
      <legend>{props.label}</legend>
      {props.options.map(([value, text, explained]) => (
        <label key={value}>
          <input
            type="radio"
            name={props.label}
            checked={value === props.value}
            onChange={() => props.onChange(value)}
          />
          <span>
            <b>{text}</b>
            <small>{explained}</small>
          </span>
        </label>
      ))}
    </fieldset>
  );
}

export function Switch(props: {
  label: string;
  below?: string;
  on: boolean;
  busy?: boolean;
  onChange: (on: boolean) => void;
}) {
  return (
    <label class="switch">
      <span>
        <b>{props.label}</b>
        {props.below !== undefined && <small>{props.below}</small>}
      </span>
      <input
        type="checkbox"
        role="switch"
        checked={props.on}
        disabled={props.busy === true}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />
    </label>
  );
}

/** A question in a dialog of the browser's own: it keeps the focus, and Escape closes it. */
export function Ask(props: { title: string; children: ComponentChildren; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="ask" aria-labelledby="ask-title" onClose={props.onClose}>
      <h2 id="ask-title">{props.title}</h2>
      {props.children}
    </dialog>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <Button
      icon={copied ? "check" : "copy"}
      onClick={async () => {
        try {
          await navigator.clipboard.writeText(text);
          setCopied(true);
        } catch {
          // Without the right to the clipboard the text is there to be selected.
        }
      }}
    >
      <span aria-live="polite">{copied ? t("copied") : label}</span>
    </Button>
  );
}

export function day(ms: number): string {
  const midnight = (date: Date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  const days = Math.round((midnight(new Date()) - midnight(new Date(ms))) / 86_400_000);
  if (days === 0) return t("today");
  if (days === 1) return t("yesterday");
  const sameYear = new Date(ms).getFullYear() === new Date().getFullYear();
  return new Intl.DateTimeFormat(locale(), {
    weekday: "short",
    day: "numeric",
    month: "long",
    ...(sameYear ? {} : { year: "numeric" }),
  }).format(ms);
}

export function time(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { hour: "numeric", minute: "2-digit" }).format(ms);
}

export function dateTime(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(ms);
}

export function openIfEnter(event: KeyboardEvent, address: string): void {
  if (event.key === "Enter") go(address);
}

// Everything that people read, in their language. English is always there; others are loaded when they are needed.

import { type Dictionary, en } from "./en.ts";

export type Key = keyof typeof en;
export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

const STORED = "superapp.language";

let dictionary: Dictionary = en;
let language: Language = "en";

export function chosenLanguage(): Language | null {
  const stored = localStorage.getItem(STORED);
  return stored !== null && stored in LANGUAGES ? (stored as Language) : null;
}

/** Null is the language of the browser. It holds from the next start. */
export function chooseLanguage(chosen: Language | null): void {
  if (chosen === null) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, chosen);
}

export async function loadLanguage(): Promise<void> {
  const wanted = chosenLanguage() ?? preferred(navigator.languages);
  try {
    if (wanted === "de") dictionary = (await import("./de.ts")).de;
    language = wanted;
  } catch {
    // A file that gets lost on the way is no reason to show nothing.
  }
  document.documentElement.lang = language;
}

/** The first language that somebody reads and that we have. */
export function preferred(languages: readonly string[]): Language {
  for (const each of languages) {
    const base = each.toLowerCase().split("-")[0] ?? "";
    if (base in LANGUAGES) return base as Language;
  }
  return "en";
}

/** For numbers and dates: the browser's variant of our language (de-AT), else the language itself. */
export function locale(): string {
  return navigator.languages.find((each) => each.toLowerCase().startsWith(language)) ?? language;
}

/** The text of a key. ``n`` chooses between the forms that ``|`` parts: one, and any other number. */
export function t(key: Key, values: Readonly<Record<string, string | number>> = {}): string {
  return fill(dictionary[key], values, language);
}

export function fill(text: string, values: Readonly<Record<string, string | number>>, inLanguage: string): string {
  const forms = text.split("|");
  const one = typeof values.n === "number" && new Intl.PluralRules(inLanguage).select(values.n) === "one";
  const form = (forms.length > 1 && !one ? forms[1] : forms[0]) ?? text;
  return form.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

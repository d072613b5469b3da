// What was asked of the server and is shown in more than one place: asked once, shown at once, asked again in time.

import { useEffect, useState } from "preact/hooks";
import { asProblem, type Problem } from "./problem.ts";

interface Entry {
  value?: unknown;
  problem?: Problem;
  asked?: Promise<void>;
  watchers: Set<() => void>;
  load?: () => Promise<unknown>;
}

export interface Resource<T> {
  /** The newest that is known, also after a later problem. */
  value?: T;
  problem?: Problem;
  again: () => Promise<void>;
}

const entries = new Map<string, Entry>();
let onProblem: (problem: Problem | null) => void = () => undefined;

/** Told of every answer: the problem, or null. */
export function watchProblems(watch: (problem: Problem | null) => void): void {
  onProblem = watch;
}

function entryOf(key: string): Entry {
  let entry = entries.get(key);
  if (entry === undefined) {
    entry = { watchers: new Set() };
    entries.set(key, entry);
  }
  return entry;
}

function tell(entry: Entry): void {
  for (const watcher of [...entry.watchers]) watcher();
}

function ask(entry: Entry): Promise<void> {
  entry.asked ??= (async () => {
    try {
      entry.value = await entry.load?.();
      delete entry.problem;
      onProblem(null);
    } catch (thrown) {
      entry.problem = asProblem(thrown);
      onProblem(entry.problem);
    } finally {
      delete entry.asked;
      tell(entry);
    }
  })();
  return entry.asked;
}

/** Ask again for everything shown now whose key begins so, and forget what is not shown. */
export async function refresh(...prefixes: string[]): Promise<void> {
  const asked: Promise<void>[] = [];
  for (const [key, entry] of entries) {
    if (!prefixes.some((prefix) => key.startsWith(prefix))) continue;
    if (entry.watchers.size === 0) entries.delete(key);
    else asked.push(ask(entry));
  }
  await Promise.all(asked);
}

export function forgetEverything(): void {
  for (const entry of entries.values()) {
    delete entry.value;
    delete entry.problem;
  }
  entries.clear();
}

/** What ``load`` gives; nothing while ``key`` is null. ``everyMs``: again and again, while the page is seen. */
export function useResource<T>(key: string | null, load: () => Promise<T>, everyMs?: number): Resource<T> {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (key === null) return;
    const entry = entryOf(key);
    const watcher = () => redraw((count) => count + 1);
    entry.watchers.add(watcher);
    entry.load = load;
    void ask(entry);
    watcher();
    const seen = () => {
      if (document.visibilityState === "visible") void ask(entry);
    };
    const timer = everyMs === undefined ? undefined : setInterval(seen, everyMs);
    addEventListener("online", seen);
    document.addEventListener("visibilitychange", seen);
    return () => {
      entry.watchers.delete(watcher);
      clearInterval(timer);
      removeEventListener("online", seen);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [key]);
  const entry = key === null ? undefined : entries.get(key);
  return {
    ...(entry?.value === undefined ? {} : { value: entry.value as T }),
    ...(entry?.problem === undefined ? {} : { problem: entry.problem }),
    again: async () => {
      if (entry !== undefined) await ask(entry);
    },
  };
}

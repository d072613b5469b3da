// Who is verified, as the homeserver tells visitors of public handles (``GET handles/{handle}/public``).
//
// The module has no session, so it asks as anybody may: without credentials, only for people in sight, each once in ten
// minutes. What is no answer shows nothing; a card without a badge is a card all the same.

/** A public handle, and who vouches for it: homeservers, domains, organisations; nobody, if it is empty. */
export interface Told {
  handle: string;
  issuers: readonly string[];
}

interface Kept {
  told: Told | null;
  untilMs: number;
}

const FRESH_MS = 600_000;
const MOST = 2_000;
const HANDLE = /^@[!-9;-~]{1,200}:[A-Za-z0-9.:[\]-]{1,230}$/;

export class Badges {
  readonly #api: URL;
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();
  readonly #listeners = new Set<() => void>();

  /** ``wallet`` is where the homeserver's pages are; the API is beside them. */
  constructor(wallet: URL, now: () => number = Date.now) {
    this.#api = new URL("../_synapse/client/superapp/v1/", wallet);
    this.#now = now;
  }

  /** What is known of somebody by handle or user id; asks if that is nothing, or old. */
  of(person: string): Told | null {
    const kept = this.#kept.get(person);
    if (kept === undefined || kept.untilMs <= this.#now()) {
      // Once, also if the answer does not come.
      this.#keep(person, kept?.told ?? null);
      void this.#ask(person);
    }
    return this.#kept.get(person)?.told ?? null;
  }

  /** Have ``changed`` called when an answer came, until what this returns is called: as React wants it of a store. */
  readonly subscribe = (changed: () => void): (() => void) => {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  };

  #keep(person: string, told: Told | null): void {
    this.#kept.delete(person);
    this.#kept.set(person, { told, untilMs: this.#now() + FRESH_MS });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MOST && oldest !== undefined) this.#kept.delete(oldest);
  }

  async #ask(person: string): Promise<void> {
    let told: Told | null = null;
    try {
      const answer = await fetch(new URL(`handles/${encodeURIComponent(person)}/public`, this.#api), {
        credentials: "omit",
        referrerPolicy: "no-referrer",
      });
      if (answer.ok) told = readTold(await answer.json());
    } catch {
      // The homeserver is away, or has no directory.
    }
    const before = JSON.stringify(this.#kept.get(person)?.told ?? null);
    this.#keep(person, told);
    if (JSON.stringify(told) !== before) for (const changed of [...this.#listeners]) changed();
  }
}

/** The answer of the homeserver; null if it tells of nobody. */
export function readTold(found: unknown): Told | null {
  if (typeof found !== "object" || found === null) return null;
  const { handle, badges } = found as Record<string, unknown>;
  if (typeof handle !== "string" || !HANDLE.test(handle) || !Array.isArray(badges)) return null;
  const issuers = badges.map((each: unknown) => (each as { issuer?: unknown } | null)?.issuer);
  return { handle, issuers: [...new Set(issuers.filter((each) => typeof each === "string"))] };
}

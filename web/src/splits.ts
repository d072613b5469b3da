// How an amount is split, as the homeserver does it, so that people see the parts before they ask for them.

export type How = "equal" | "shares" | "amounts";

export interface Parts {
  parts: readonly number[];
  /** What is one's own and nobody is asked for. */
  mine: number;
}

/**
 * The parts of ``amount``; null where it cannot be split so, because a part is missing or nothing.
 *
 * ``parts`` are shares or amounts, one for each who is asked; ``mine`` are one's own shares. What does not divide goes a
 * unit each to the largest remainders, of equal ones to oneself first and then in order (docs/payments.md).
 */
export function splitAmount(
  amount: number,
  how: How,
  parts: readonly (number | null)[],
  mine: number | null,
): Parts | null {
  if (parts.length === 0 || mine === null) return null;
  if (how === "amounts") {
    const given = parts.map((each) => each ?? 0);
    const left = amount - given.reduce((sum, each) => sum + each, 0);
    return given.some((each) => each <= 0) || left < 0 ? null : { parts: given, mine: left };
  }
  const weights = [mine, ...parts.map((each) => (how === "equal" ? 1 : (each ?? 0)))];
  if (weights.slice(1).some((each) => each <= 0)) return null;
  const whole = BigInt(weights.reduce((sum, each) => sum + each, 0));
  const exact = weights.map((each) => BigInt(each) * BigInt(amount));
  const floors = exact.map((each) => Number(each / whole));
  const left = amount - floors.reduce((sum, each) => sum + each, 0);
  const order = exact
    .map((each, place): [bigint, number] => [each % whole, place])
    .sort(([one, first], [other, second]) => (one === other ? first - second : one > other ? -1 : 1));
  for (const [, place] of order.slice(0, left)) floors[place] = (floors[place] ?? 0) + 1;
  const [own = 0, ...asked] = floors;
  return asked.some((each) => each === 0) ? null : { parts: asked, mine: own };
}

/** A whole number of shares; null if it is none. */
export function readShares(text: string): number | null {
  return /^[0-9]{1,6}$/.test(text.trim()) ? Number(text.trim()) : null;
}

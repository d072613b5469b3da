// What a call by the minute comes to, counted as the homeserver counts it: by the whole second, rounded down.

export interface Metered {
  amount: number;
  most: number;
}

/** What so much talk costs, in the smallest unit; never more than was confirmed. */
export function costOf(fare: Metered, talkedMs: number): number {
  const seconds = BigInt(Math.max(0, Math.floor(talkedMs / 1_000)));
  const cost = (BigInt(fare.amount) * seconds) / 60n;
  return cost > BigInt(fare.most) ? fare.most : Number(cost);
}

/** What is set aside as soon as the price is confirmed: three minutes, or all where that is less. */
export function firstOf(amount: number, minutes: number): number {
  return amount * Math.min(3, minutes);
}

/** The amount that a refusal names, if it names one. */
export function amountIn(fields: Readonly<Record<string, unknown>>): { amount: number; currency: string } | null {
  const { amount, currency } = fields;
  return Number.isSafeInteger(amount) && typeof currency === "string" ? { amount: amount as number, currency } : null;
}

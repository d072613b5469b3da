// The days of a month and what came and went on each. Pure.

export interface Day {
  day: number;
  received: number;
  sent: number;
}

export interface Counted {
  created_ts: number;
  direction: string;
  amount: number;
  currency: string;
  state: string;
}

/** Months are counted from now: 0 is this one, 1 the last. Ends are milliseconds, by the clock of the browser. */
export function monthSpan(now: Date, ago: number): { first: Date; startMs: number; endMs: number; days: number } {
  const first = new Date(now.getFullYear(), now.getMonth() - ago, 1);
  const next = new Date(first.getFullYear(), first.getMonth() + 1, 1);
  const days = new Date(first.getFullYear(), first.getMonth() + 1, 0).getDate();
  return { first, startMs: first.getTime(), endMs: next.getTime(), days };
}

/** What moved on each day of the month, in one currency. Only completed payments have moved money. */
export function daysOf(payments: readonly Counted[], currency: string, now: Date, ago: number): Day[] {
  const { startMs, endMs, days } = monthSpan(now, ago);
  const found = Array.from({ length: days }, (_, at) => ({ day: at + 1, received: 0, sent: 0 }));
  for (const payment of payments) {
    if (payment.state !== "completed" || payment.currency !== currency) continue;
    if (payment.created_ts < startMs || payment.created_ts >= endMs) continue;
    const day = found[new Date(payment.created_ts).getDate() - 1];
    if (day === undefined) continue;
    if (payment.direction === "incoming") day.received += payment.amount;
    else day.sent += payment.amount;
  }
  return found;
}

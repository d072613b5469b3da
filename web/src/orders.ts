// An order that a person has confirmed, kept until its end is known: asking again with the same number never pays twice,
// and a page that was closed in the middle asks again.

import { answer } from "./api.ts";
import type { Home } from "./home.ts";
import { Problem } from "./problem.ts";
import type { PaymentJson } from "./schema.ts";

export interface Order {
  payment_id: string;
  payee: string;
  amount: number;
  currency: string;
  memo?: string;
  room_id?: string;
  request?: string;
  /** The fee that was shown. */
  fee?: number;
}

/** What shows that it is the person who orders. It is never kept. */
export type Proof = { pin: string } | { passkey: Record<string, unknown> };

const STORED = "superapp.order";

export function keptOrder(userId: string): Order | null {
  try {
    const kept = JSON.parse(localStorage.getItem(STORED) ?? "null") as { userId: string; order: Order } | null;
    return kept?.userId === userId ? kept.order : null;
  } catch {
    return null;
  }
}

export function keepOrder(userId: string, order: Order | null): void {
  if (order === null) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, JSON.stringify({ userId, order }));
}

/** Order it, or ask how it stands if it was ordered already.
 *
 * @throws {Problem} it was refused, and nothing was paid; or nobody was heard (``unheard``), and it may have been.
 */
export async function order(home: Home, wanted: Order, proof?: Proof): Promise<PaymentJson> {
  keepOrder(home.session.userId, wanted);
  try {
    await answer(home.api.POST("/payments", { body: { ...wanted, ...proof } }));
  } catch (thrown) {
    // What was refused is over, but for what time or the person can cure; the same order may then be sent again.
    if (thrown instanceof Problem && !thrown.unheard) keepOrder(home.session.userId, null);
    throw thrown;
  }
  const payment = await standing(home, wanted.payment_id);
  keepOrder(home.session.userId, null);
  return payment;
}

export function standing(home: Home, paymentId: string): Promise<PaymentJson> {
  return answer(home.api.GET("/payments/{payment_id}", { params: { path: { payment_id: paymentId }, query: {} } }));
}

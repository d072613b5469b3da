// Whether the draw of a gift was honest, computed here rather than believed (docs/payments.md, "Checking the draw").

export interface Draw {
  giftId: string;
  amount: number;
  shares: number;
  split: string;
  salt: string;
  drawn: readonly number[];
  claims: readonly { number: number; amount: number }[];
}

export type Verdict = "honest" | "another_draw" | "wrong_sum" | "wrong_share";

/** ``commitment`` is what the first event in the room said, before anybody had claimed. */
export async function checkDraw(draw: Draw, commitment: string): Promise<Verdict> {
  // Strings and whole numbers: canonical JSON is what JSON.stringify makes of them.
  const text = JSON.stringify(["superapp-gift-1", draw.giftId, draw.salt, draw.drawn]);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const encoded = btoa(String.fromCharCode(...hash))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
  if (encoded !== commitment) return "another_draw";
  const sum = draw.drawn.reduce((total, each) => total + each, 0);
  const whole = draw.drawn.every((each) => Number.isSafeInteger(each) && each > 0);
  if (!whole || sum !== draw.amount || draw.drawn.length !== draw.shares) return "wrong_sum";
  if (draw.split === "equal") {
    const [first = 0] = draw.drawn;
    const last = draw.drawn.at(-1) ?? 0;
    const falling = draw.drawn.every((each, place) => place === 0 || each <= (draw.drawn[place - 1] ?? 0));
    if (first - last > 1 || !falling) return "wrong_sum";
  }
  return draw.claims.every((claim) => draw.drawn[claim.number] === claim.amount) ? "honest" : "wrong_share";
}

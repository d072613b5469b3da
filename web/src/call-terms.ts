// The terms of a link into a call, from what somebody entered. Pure.

import type { Money } from "./money.ts";
import type { MakeLink } from "./schema.ts";

export const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
export type Day = (typeof DAYS)[number];

export interface Terms {
  title: string;
  kind: "call" | "live";
  waiting: boolean;
  most: string;
  /** As a field for date and time has it; empty for none. */
  from: string;
  until: string;
  hours: { from: string; to: string; days: readonly Day[] } | null;
  /** Of a minute, in the smallest unit. */
  price: Money | null;
}

export const NO_TERMS: Terms = {
  title: "",
  kind: "call",
  waiting: false,
  most: "",
  from: "",
  until: "",
  hours: null,
  price: null,
};
export const WORKDAYS: readonly Day[] = DAYS.slice(0, 5);
const MOST = 100_000;

export type Fault = "most" | "order" | "days";

/** What the homeserver is asked for, or which field is wrong. */
export function termsOf(terms: Terms, zone: string): MakeLink | Fault {
  const most = terms.most.trim() === "" ? 0 : /^\d{1,6}$/.test(terms.most.trim()) ? Number(terms.most.trim()) : NaN;
  if (!(most <= MOST) || (terms.most.trim() !== "" && most < 1)) return "most";
  const from = msOf(terms.from);
  const until = msOf(terms.until);
  if (from !== null && until !== null && until <= from) return "order";
  if (terms.hours !== null && terms.hours.days.length === 0) return "days";
  return {
    title: terms.title.trim(),
    waiting_room: terms.waiting,
    max: most,
    ...(from === null ? {} : { opens_ts: from }),
    ...(until === null ? {} : { closes_ts: until }),
    ...(terms.hours === null
      ? {}
      : {
          hours: {
            time_zone: zone,
            windows: [
              {
                from: terms.hours.from,
                to: terms.hours.to,
                days: DAYS.filter((each) => terms.hours?.days.includes(each)),
              },
            ],
          },
        }),
    ...(terms.price === null ? {} : { price: terms.price }),
    ...(terms.kind === "live" ? { stage: true, media: "audio" } : {}),
  };
}

function msOf(entered: string): number | null {
  const ms = Date.parse(entered);
  return Number.isNaN(ms) ? null : ms;
}

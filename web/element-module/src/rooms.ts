// Which rooms are chats of two, by the account data in which clients keep that (``m.direct``). Pure.

import { isUser } from "./cards.ts";

/** With whom one is in a direct room; null in every other one, and where several people are named for it. */
export function otherIn(roomId: string, direct: unknown): string | null {
  if (typeof direct !== "object" || direct === null) return null;
  const people = Object.entries(direct)
    .filter(([person, rooms]) => isUser(person) && Array.isArray(rooms) && rooms.includes(roomId))
    .map(([person]) => person);
  return people.length === 1 ? (people[0] ?? null) : null;
}

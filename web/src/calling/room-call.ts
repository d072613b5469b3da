// The call of a room that a session is in: there is one, and this file chooses the way of it. Whoever comes first takes that
// of their homeserver, over its call server or from browser to browser; whoever comes later goes where the others are.

import type { Home } from "../home.ts";
import { asProblem } from "../problem.ts";
import { Line } from "./line.ts";
import { stateKey, wayInto } from "./members.ts";
import { Mesh } from "./mesh.ts";
import { deviceOf, present } from "./seat.ts";
import type { Media } from "./signals.ts";

export class RoomCall extends Line {
  readonly #home: Home;
  #line: Line | null = null;
  #round = 0;

  constructor(home: Home) {
    super();
    this.#home = home;
  }

  async join(roomId: string, media: Media): Promise<void> {
    if (this.now !== null && this.now.phase !== "over") return;
    const round = ++this.#round;
    this.begin(roomId, media, null);
    try {
      const [device, found] = await Promise.all([deviceOf(this.#home), present(this.#home, roomId)]);
      const mine = stateKey(this.#home.session.userId, device);
      const way = wayInto(
        found.filter((each) => each.key !== mine),
        this.#home.about.call_server ?? null,
      );
      // The client of call servers is large, and loaded by who needs it.
      const line =
        way === null ? new Mesh(this.#home) : new (await import("./conference.ts")).Conference(this.#home, device, way);
      if (round !== this.#round) return;
      this.#line = line;
      line.watch(() => {
        if (this.#line !== line) return;
        this.now = line.now;
        this.changed();
      });
      await line.join(roomId, media);
    } catch (thrown) {
      if (round === this.#round) this.show({ phase: "over", problem: asProblem(thrown) });
    }
  }

  async leave(): Promise<void> {
    this.#round += 1;
    if (this.#line !== null) await this.#line.leave();
    else if (this.now?.phase === "joining") this.show({ phase: "over" });
    this.#line = null;
  }

  mute(muted: boolean): void {
    this.#line?.mute(muted);
  }

  hide(hidden: boolean): void {
    this.#line?.hide(hidden);
  }

  async speak(media: Media): Promise<void> {
    await this.#line?.speak(media);
  }

  async share(on: boolean): Promise<void> {
    await this.#line?.share(on);
  }
}

const calls = new WeakMap<Home, RoomCall>();

export function roomCallOf(home: Home): RoomCall {
  let call = calls.get(home);
  if (call === undefined) {
    call = new RoomCall(home);
    calls.set(home, call);
  }
  return call;
}

// What the screen of a room's call knows of it, whichever way the call goes.

import type { Problem } from "../problem.ts";
import type { Way } from "./members.ts";
import type { Media } from "./signals.ts";

/** One of the others, as shown. ``screen`` is what they show of their screen. */
export interface Other {
  key: string;
  userId: string;
  connected: boolean;
  stream: MediaStream | null;
  picture: boolean;
  screen: MediaStream | null;
}

/** What somebody sends, in the words of the homeserver. */
export type Source = "microphone" | "camera" | "screen_share";

export interface RoomCallNow {
  roomId: string;
  media: Media;
  way: Way;
  phase: "joining" | "in" | "over";
  problem: Problem | null;
  local: MediaStream | null;
  others: readonly Other[];
  muted: boolean;
  hidden: boolean;
  /** What one may send now. */
  may: readonly Source[];
  /** One's own screen, while it is shown to the others. */
  screen: MediaStream | null;
}

export abstract class Line {
  now: RoomCallNow | null = null;
  readonly #watchers = new Set<() => void>();

  /** Never throws: what went wrong is in ``now``. */
  abstract join(roomId: string, media: Media): Promise<void>;
  abstract leave(): Promise<void>;
  abstract mute(muted: boolean): void;
  abstract hide(hidden: boolean): void;
  /** Send sound, and a picture if one likes, from now on; for who was let speak after they came. */
  abstract speak(media: Media): Promise<void>;
  /** Show one's screen, or stop. */
  abstract share(on: boolean): Promise<void>;

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  protected begin(roomId: string, media: Media, way: Way): void {
    const nothing = { problem: null, local: null, others: [], may: [], screen: null };
    this.now = { roomId, media, way, phase: "joining", muted: false, hidden: false, ...nothing };
    this.changed();
  }

  protected show(changed: Partial<RoomCallNow>): void {
    if (this.now === null) return;
    this.now = { ...this.now, ...changed };
    this.changed();
  }

  protected changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

// The call of a room, from browser to browser: up to four people, each connected with each, over the relay where there is
// no direct way.
//
// Who is in it stands in the room's state (MatrixRTC memberships), so homeservers record it as any call. Offers, answers
// and candidates go from device to device, past the room.

import { answer as answerOf, type Json, matrix } from "../api.ts";
import type { Home } from "../home.ts";
import { asProblem, Problem } from "../problem.ts";
import { t } from "../text/index.ts";
import { Connection, ownMedia } from "./media.ts";
import {
  begins,
  type Member,
  membersOf,
  membership,
  MOST,
  type PeerSignal,
  readPeerSignal,
  SIGNAL_TYPE,
  stateKey,
} from "./members.ts";
import { eventsOf, newId, phoneOf } from "./phone.ts";
import { type Media, MEMBER_TYPE, type RoomEvent } from "./signals.ts";

/** How often one looks again who is there, since a page may miss an event. */
const LOOK_MS = 10_000;
/** Without an answer in this time the offer is made anew. */
const ANSWER_MS = 8_000;
/** A device that is cut off is out of the call after this time. */
const CUT_OFF_MS = 30_000;
const EARLY_MAX = 100;
/** Smaller than between two, since it is sent once for each of the others. */
const PICTURE_WIDTH = 640;

/** One of the others, as shown. */
export interface Other {
  key: string;
  userId: string;
  connected: boolean;
  stream: MediaStream | null;
}

export interface MeshNow {
  roomId: string;
  media: Media;
  phase: "joining" | "in" | "over";
  problem: Problem | null;
  local: MediaStream | null;
  others: readonly Other[];
  muted: boolean;
  hidden: boolean;
}

interface Peer {
  member: Member;
  attempt: string;
  connection: Connection;
  answered: boolean;
  connected: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

export class Mesh {
  now: MeshNow | null = null;
  readonly #home: Home;
  readonly #watchers = new Set<() => void>();
  readonly #peers = new Map<string, Peer>();
  #device = "";
  #session = "";
  #members: readonly Member[] = [];
  #servers: RTCConfiguration = {};
  #delayId: string | null = null;
  #looking: Promise<void> | null = null;
  #again = false;
  #early: PeerSignal[] = [];
  #stop = new AbortController();

  constructor(home: Home) {
    this.#home = home;
  }

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Who is in the call of a room now. */
  async present(roomId: string): Promise<readonly Member[]> {
    const types = [MEMBER_TYPE];
    const nothing = { not_types: ["*"] };
    const filter = JSON.stringify({
      presence: nothing,
      account_data: nothing,
      room: {
        rooms: [roomId],
        // Another filter each time: a homeserver may answer what it was asked before with what it said then.
        not_rooms: [`!${newId(4)}:nowhere.invalid`],
        state: { types },
        timeline: { types, limit: 50 },
        ephemeral: nothing,
        account_data: nothing,
      },
    });
    const query = new URLSearchParams({ filter, set_presence: "offline", timeout: "0" });
    const page = await matrix(this.#home.tokens, "GET", `v3/sync?${query}`);
    return membersOf([...stateOf(page, roomId), ...eventsOf(page)], Date.now());
  }

  async join(roomId: string, media: Media): Promise<void> {
    if (this.now !== null && this.now.phase !== "over") return;
    this.#session = newId(8);
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const first = { roomId, media, phase: "joining", problem: null, local: null, others: [] } as const;
    this.now = { ...first, muted: false, hidden: false };
    this.#changed();
    try {
      const { device_id } = await matrix(this.#home.tokens, "GET", "v3/account/whoami");
      this.#device = String(device_id);
      const present = await this.present(roomId);
      if (present.filter((each) => each.key !== this.#key).length >= MOST) throw full();
      const local = await ownMedia(media, PICTURE_WIDTH);
      if (signal.aborted) {
        for (const track of local.getTracks()) track.stop();
        return;
      }
      this.#show({ local, hidden: media === "video" && local.getVideoTracks().length === 0 });
      this.#servers = await this.#relay(roomId);
      const unlisten = phoneOf(this.#home).listen((page) => this.#hear(page));
      signal.addEventListener("abort", unlisten);
      await this.#say(roomId, membership(this.#device, this.#session));
      // Afterwards, since one's own new state takes back what was scheduled before.
      await this.#leaveWhenCutOff(roomId);
      const timer = setInterval(() => void this.#look(), LOOK_MS);
      signal.addEventListener("abort", () => clearInterval(timer));
      addEventListener("pagehide", () => void this.leave(), { signal });
      await this.#look();
      if (!signal.aborted) this.#show({ phase: "in" });
    } catch (thrown) {
      if (!signal.aborted) await this.#end(asProblem(thrown));
    }
  }

  leave(): Promise<void> {
    return this.#end(null);
  }

  mute(muted: boolean): void {
    for (const track of this.now?.local?.getAudioTracks() ?? []) track.enabled = !muted;
    this.#show({ muted });
  }

  hide(hidden: boolean): void {
    for (const track of this.now?.local?.getVideoTracks() ?? []) track.enabled = !hidden;
    this.#show({ hidden });
  }

  get #key(): string {
    return stateKey(this.#home.session.userId, this.#device);
  }

  // Who is there.

  #hear(page: Json): void {
    const roomId = this.now?.roomId;
    if (eventsOf(page).some((event) => event.type === MEMBER_TYPE && event.room_id === roomId)) void this.#look();
    const { events = [] } = (page.to_device ?? {}) as { events?: Parameters<typeof readPeerSignal>[0][] };
    for (const message of events) {
      const signal = readPeerSignal(message);
      if (signal === null || signal.roomId !== roomId || signal.to !== this.#session) continue;
      if (this.#memberOf(signal) !== undefined) void this.#signal(signal);
      else if (this.#early.length < EARLY_MAX) {
        // It overtook the membership of who sends it.
        this.#early.push(signal);
        void this.#look();
      }
    }
  }

  /** One look at a time; what changes during one is seen by another after it. */
  async #look(): Promise<void> {
    this.#again = true;
    this.#looking ??= (async () => {
      try {
        while (this.#again && !this.#stop.signal.aborted) {
          this.#again = false;
          await this.#lookOnce();
        }
      } finally {
        this.#looking = null;
      }
    })();
    await this.#looking;
  }

  async #lookOnce(): Promise<void> {
    const { now } = this;
    if (now === null) return;
    let found: readonly Member[];
    try {
      found = await this.present(now.roomId);
    } catch {
      // The next look tells; those who talk go on talking.
      return;
    }
    if (this.#stop.signal.aborted) return;
    const place = found.findIndex((each) => each.key === this.#key);
    if (place >= MOST) {
      // Five came at once: those who were first stay.
      await this.#end(full());
      return;
    }
    this.#members = found.slice(0, MOST).filter((each) => each.key !== this.#key);
    for (const [key, peer] of [...this.#peers])
      if (!this.#members.some((each) => each.key === key && each.session === peer.member.session)) this.#drop(key);
    for (const member of this.#members)
      if (!this.#peers.has(member.key) && begins(this.#key, member.key)) void this.#offer(member);
    for (const signal of this.#early.splice(0)) void this.#signal(signal);
    this.#shown();
  }

  // Between two.

  async #offer(member: Member): Promise<void> {
    const peer = this.#connect(member, newId(8));
    if (peer === null) return;
    try {
      // Whoever sends no picture sees those of the others.
      const sdp = await peer.connection.offer("video");
      await this.#tell(peer, { kind: "offer", sdp });
    } catch {
      // Made anew below.
    }
    peer.timer = setTimeout(() => {
      if (this.#peers.get(member.key) === peer && !peer.answered) this.#anew(member.key);
    }, ANSWER_MS);
  }

  #memberOf(signal: PeerSignal): Member | undefined {
    return this.#members.find((each) => each.session === signal.from && each.userId === signal.sender);
  }

  async #signal(signal: PeerSignal): Promise<void> {
    const member = this.#memberOf(signal);
    if (member === undefined) return;
    const peer = this.#peers.get(member.key);
    switch (signal.kind) {
      case "offer": {
        if (begins(this.#key, member.key) || peer?.attempt === signal.attempt) return;
        this.#drop(member.key);
        const answering = this.#connect(member, signal.attempt);
        if (answering === null) return;
        answering.answered = true;
        const sdp = await answering.connection.answer(signal.sdp);
        await this.#tell(answering, { kind: "answer", sdp });
        return;
      }
      case "answer":
        if (peer === undefined || peer.attempt !== signal.attempt || peer.answered) return;
        peer.answered = true;
        await peer.connection.answered(signal.sdp);
        return;
      case "candidates":
        if (peer?.attempt === signal.attempt) await peer.connection.add(signal.candidates);
        return;
    }
  }

  #connect(member: Member, attempt: string): Peer | null {
    const local = this.now?.local ?? null;
    if (local === null) return null;
    const connection = new Connection(this.#servers, local, {
      connected: () => {
        peer.connected = true;
        this.#shown();
      },
      failed: () => {
        if (this.#peers.get(member.key) === peer) this.#anew(member.key);
      },
      candidates: (candidates) => void this.#tell(peer, { kind: "candidates", candidates }).catch(() => undefined),
    });
    const peer: Peer = { member, attempt, connection, answered: false, connected: false };
    this.#peers.set(member.key, peer);
    this.#shown();
    return peer;
  }

  /** The connection did not come about, or broke: whoever began it begins again. */
  #anew(key: string): void {
    this.#drop(key);
    void this.#look();
  }

  #drop(key: string): void {
    const peer = this.#peers.get(key);
    clearTimeout(peer?.timer);
    peer?.connection.close();
    this.#peers.delete(key);
    this.#shown();
  }

  async #tell(peer: Peer, said: Json): Promise<void> {
    const { userId, deviceId, session } = peer.member;
    const content = {
      room_id: this.now?.roomId ?? "",
      from: this.#session,
      to: session,
      attempt: peer.attempt,
      ...said,
    };
    const path = `v3/sendToDevice/${SIGNAL_TYPE}/${newId(8)}`;
    await matrix(this.#home.tokens, "PUT", path, { messages: { [userId]: { [deviceId]: content } } });
  }

  // One's own place.

  async #relay(roomId: string): Promise<RTCConfiguration> {
    const { api } = this.#home;
    try {
      const params = { path: { room_id: roomId } };
      const turn = await answerOf(api.GET("/call_rooms/{room_id}/turn", { params }));
      const server = { urls: turn.uris, username: turn.username, credential: turn.password };
      return { iceServers: [server], iceTransportPolicy: turn.relay_only === true ? "relay" : "all" };
    } catch (thrown) {
      if (!(thrown instanceof Problem && thrown.code === "NO_TURN")) throw thrown;
      const policy = await answerOf(api.GET("/call_policy"));
      if (policy.relay_only) throw new Problem("NO_RELAY", t("phone.no_relay"));
      return {};
    }
  }

  #say(roomId: string, content: Json, more: { query?: string; keepalive?: boolean } = {}): Promise<Json> {
    const where = `v3/rooms/${encodeURIComponent(roomId)}/state/${MEMBER_TYPE}/${encodeURIComponent(this.#key)}`;
    const { query = "", keepalive = false } = more;
    return matrix(this.#home.tokens, "PUT", where + query, content, { keepalive });
  }

  /** Have the homeserver take one out of the call when this page says nothing any more, where it can (MSC4140). */
  async #leaveWhenCutOff(roomId: string): Promise<void> {
    try {
      const due = await this.#say(roomId, {}, { query: `?org.matrix.msc4140.delay=${CUT_OFF_MS}` });
      this.#delayId = typeof due.delay_id === "string" ? due.delay_id : null;
    } catch {
      this.#delayId = null;
      return;
    }
    const timer = setInterval(() => void this.#delayed("restart").catch(() => undefined), CUT_OFF_MS / 3);
    this.#stop.signal.addEventListener("abort", () => clearInterval(timer));
  }

  async #delayed(action: "restart" | "cancel", keepalive = false): Promise<void> {
    if (this.#delayId === null) return;
    const path = `unstable/org.matrix.msc4140/delayed_events/${encodeURIComponent(this.#delayId)}`;
    await matrix(this.#home.tokens, "POST", path, { action }, { keepalive });
  }

  async #end(problem: Problem | null): Promise<void> {
    const { now } = this;
    if (now === null || now.phase === "over") return;
    this.#stop.abort();
    for (const key of [...this.#peers.keys()]) this.#drop(key);
    for (const track of now.local?.getTracks() ?? []) track.stop();
    this.#members = [];
    this.#early = [];
    this.#show({ phase: "over", problem, local: null, others: [] });
    const left = this.#say(now.roomId, {}, { keepalive: true });
    const cancelled = this.#delayed("cancel", true);
    this.#delayId = null;
    await Promise.allSettled([left, cancelled]);
  }

  // What is shown.

  #shown(): void {
    const others = this.#members.map((member): Other => {
      const peer = this.#peers.get(member.key);
      return {
        key: member.key + member.session,
        userId: member.userId,
        connected: peer?.connected === true,
        stream: peer?.connection.remote ?? null,
      };
    });
    this.#show({ others });
  }

  #show(changed: Partial<MeshNow>): void {
    if (this.now === null) return;
    this.now = { ...this.now, ...changed };
    this.#changed();
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

const meshes = new WeakMap<Home, Mesh>();

/** The call of a room that a session is in; there is one. */
export function meshOf(home: Home): Mesh {
  let mesh = meshes.get(home);
  if (mesh === undefined) {
    mesh = new Mesh(home);
    meshes.set(home, mesh);
  }
  return mesh;
}

function full(): Problem {
  return new Problem("CALL_FULL", t("room_call.full"));
}

function stateOf(page: Json, roomId: string): RoomEvent[] {
  const rooms = (page.rooms ?? {}) as {
    join?: Record<string, { state?: { events?: Omit<RoomEvent, "room_id">[] } }>;
  };
  const events = rooms.join?.[roomId]?.state?.events ?? [];
  return events.map((event) => ({ ...event, room_id: roomId }));
}

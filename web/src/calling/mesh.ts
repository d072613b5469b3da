// The call of a room, from browser to browser: up to four people, each connected with each, over the relay where there is
// no direct way. Offers, answers and candidates go from device to device, past the room.

import { answer as answerOf, type Json, matrix } from "../api.ts";
import type { Home } from "../home.ts";
import { asProblem, Problem } from "../problem.ts";
import { t } from "../text/index.ts";
import { Line, type Other } from "./line.ts";
import { Connection, ownMedia } from "./media.ts";
import { begins, type Member, MOST, type PeerSignal, readPeerSignal, SIGNAL_TYPE } from "./members.ts";
import { eventsOf, newId, phoneOf } from "./phone.ts";
import { deviceOf, present, Seat } from "./seat.ts";
import { type Media, MEMBER_TYPE } from "./signals.ts";

/** How often one looks again who is there, since a page may miss an event. */
const LOOK_MS = 10_000;
/** Without an answer in this time the offer is made anew. */
const ANSWER_MS = 8_000;
const EARLY_MAX = 100;
/** Smaller than between two, since it is sent once for each of the others. */
const PICTURE_WIDTH = 640;

interface Peer {
  member: Member;
  attempt: string;
  connection: Connection;
  answered: boolean;
  connected: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

export class Mesh extends Line {
  readonly #home: Home;
  readonly #peers = new Map<string, Peer>();
  #seat: Seat | null = null;
  #members: readonly Member[] = [];
  #servers: RTCConfiguration = {};
  #looking: Promise<void> | null = null;
  #again = false;
  #wasThere = false;
  #early: PeerSignal[] = [];
  #stop = new AbortController();

  constructor(home: Home) {
    super();
    this.#home = home;
  }

  async join(roomId: string, media: Media): Promise<void> {
    if (this.now !== null && this.now.phase !== "over") return;
    this.#stop = new AbortController();
    this.#wasThere = false;
    const { signal } = this.#stop;
    this.begin(roomId, media, null);
    try {
      const seat = new Seat(this.#home, roomId, await deviceOf(this.#home));
      this.#seat = seat;
      const found = await present(this.#home, roomId);
      if (found.filter((each) => each.key !== seat.key).length >= MOST) throw full();
      const local = await ownMedia(media, PICTURE_WIDTH);
      if (signal.aborted) {
        for (const track of local.getTracks()) track.stop();
        return;
      }
      this.show({ local, hidden: media === "video" && local.getVideoTracks().length === 0 });
      this.#servers = await this.#relay(roomId);
      const unlisten = phoneOf(this.#home).listen((page) => this.#hear(page));
      signal.addEventListener("abort", unlisten);
      await seat.take(null);
      const timer = setInterval(() => void this.#look(), LOOK_MS);
      signal.addEventListener("abort", () => clearInterval(timer));
      addEventListener("pagehide", () => void this.leave(), { signal });
      await this.#look();
      if (!signal.aborted) this.show({ phase: "in" });
    } catch (thrown) {
      if (!signal.aborted) await this.#end(asProblem(thrown));
    }
  }

  leave(): Promise<void> {
    return this.#end(null);
  }

  mute(muted: boolean): void {
    for (const track of this.now?.local?.getAudioTracks() ?? []) track.enabled = !muted;
    this.show({ muted });
  }

  hide(hidden: boolean): void {
    for (const track of this.now?.local?.getVideoTracks() ?? []) track.enabled = !hidden;
    this.show({ hidden });
  }

  // Everybody here is heard, and shows their camera alone.

  async speak(): Promise<void> {}

  async share(): Promise<void> {}

  get #key(): string {
    return this.#seat?.key ?? "";
  }

  // Who is there.

  #hear(page: Json): void {
    const roomId = this.now?.roomId;
    if (eventsOf(page).some((event) => event.type === MEMBER_TYPE && event.room_id === roomId)) void this.#look();
    const { events = [] } = (page.to_device ?? {}) as { events?: Parameters<typeof readPeerSignal>[0][] };
    for (const message of events) {
      const signal = readPeerSignal(message);
      if (signal === null || signal.roomId !== roomId || signal.to !== this.#seat?.session) continue;
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
      found = await present(this.#home, now.roomId);
    } catch {
      // The next look tells; those who talk go on talking.
      return;
    }
    if (this.#stop.signal.aborted) return;
    const place = found.findIndex((each) => each.key === this.#key);
    if (place >= 0) this.#wasThere = true;
    else if (this.#wasThere) {
      // Their homeserver has taken them out: what they had confirmed for the call is used up.
      await this.#end(null);
      return;
    }
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
      from: this.#seat?.session ?? "",
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

  async #end(problem: Problem | null): Promise<void> {
    const { now } = this;
    if (now === null || now.phase === "over") return;
    this.#stop.abort();
    for (const key of [...this.#peers.keys()]) this.#drop(key);
    for (const track of now.local?.getTracks() ?? []) track.stop();
    this.#members = [];
    this.#early = [];
    this.show({ phase: "over", problem, local: null, others: [] });
    await this.#seat?.leave();
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
        picture: true,
        screen: null,
      };
    });
    this.show({ others });
  }
}

function full(): Problem {
  return new Problem("CALL_FULL", t("room_call.full"));
}

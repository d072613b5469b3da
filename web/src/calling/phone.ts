// The phone of a session: hears who rings, rings others, and holds the one call that goes on.
//
// It speaks the calls that every Matrix client knows (m.call.*), with the person's own session, and listens to the events
// of calls alone. Who may ring is decided by the homeserver before anything arrives here.

import { answer as answerOf, type Json, matrix } from "../api.ts";
import type { Home } from "../home.ts";
import { asProblem, Problem } from "../problem.ts";
import { refresh } from "../resources.ts";
import { t } from "../text/index.ts";
import { Connection, ownMedia } from "./media.ts";
import {
  common,
  HEARD_TYPES,
  type Invite,
  LIFETIME_MS,
  type Media,
  readSignal,
  ringing,
  type RoomEvent,
  type Signal,
} from "./signals.ts";

export type Ending =
  | "ended"
  | "declined"
  | "busy"
  | "unavailable"
  | "unanswered"
  | "cancelled"
  | "elsewhere"
  | "failed"
  | "problem";

/** A call as it is shown. */
export interface CallNow {
  callId: string;
  /** A handle where one is known, else a user id. */
  peer: string;
  incoming: boolean;
  /** Whom one rings, once that is known. */
  calleeId: string | null;
  media: Media;
  phase: "asking" | "ringing" | "connecting" | "connected" | "over";
  ending: Ending | null;
  problem: Problem | null;
  sinceMs: number | null;
  muted: boolean;
  hidden: boolean;
  local: MediaStream | null;
  remote: MediaStream | null;
}

/** What is needed to go on with a call, beside what is shown of it. */
interface Line {
  roomId: string;
  peerId: string;
  invite: Invite | null;
  /** The one of the other's devices that took part first. */
  peerParty: string | null;
  connection: Connection | null;
  early: Signal[];
  timer?: ReturnType<typeof setTimeout>;
}

const POLL_MS = 30_000;
const ANSWER_MS = 45_000;
const PAUSES_MS = [1_000, 2_000, 5_000, 15_000, 60_000];
const NOTHING = { not_types: ["*"] };
const FILTER = JSON.stringify({
  presence: NOTHING,
  account_data: NOTHING,
  room: {
    timeline: { types: HEARD_TYPES, limit: 20 },
    state: NOTHING,
    ephemeral: NOTHING,
    account_data: NOTHING,
  },
});

export class Phone {
  call: CallNow | null = null;
  readonly #home: Home;
  readonly #me: string;
  readonly #party: string;
  readonly #watchers = new Set<() => void>();
  readonly #listeners = new Set<(page: Json) => void>();
  #line: Line | null = null;
  #stopped = new AbortController();

  constructor(home: Home) {
    this.#home = home;
    this.#me = home.session.userId;
    // Two pages of one device are two parties.
    this.#party = newId(6);
  }

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Hear what the homeserver tells of calls, as it tells it. */
  listen(listener: (page: Json) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start(): void {
    this.#stopped = new AbortController();
    const { signal } = this.#stopped;
    addEventListener("pagehide", () => this.#leave(), { signal });
    void this.#listen(signal);
  }

  stop(): void {
    this.#leave();
    this.#stopped.abort();
  }

  /** Ring somebody. What becomes of it is shown; so is what stands in its way. */
  async ring(callee: string, media: Media): Promise<void> {
    if (this.call !== null && this.call.phase !== "over") return;
    const callId = newId(16);
    this.#begin(
      { callId, peer: callee, incoming: false, media, phase: "asking" },
      { roomId: "", peerId: "", invite: null, peerParty: null, connection: null, early: [] },
    );
    try {
      const local = await this.#media(callId, media);
      const begun = await answerOf(
        this.#home.api.POST("/calls", {
          body: { call_id: callId, callee, media, lifetime: LIFETIME_MS, matrixrtc: false },
        }),
      );
      const line = this.#lineOf(callId);
      if (line === null) {
        // Given up while it was asked for.
        await this.#send(begun.room_id, "m.call.hangup", { ...common(callId, this.#party), reason: "user_hangup" });
        return;
      }
      line.roomId = begun.room_id;
      line.peerId = begun.callee;
      this.#show({ calleeId: begun.callee });
      const connection = await this.#connect(callId, line, local);
      const sdp = await connection.offer(media);
      if (this.#lineOf(callId) === null) return;
      await this.#say("m.call.invite", {
        lifetime: LIFETIME_MS,
        invitee: begun.callee,
        offer: { type: "offer", sdp },
      });
      // A homeserver that turned the ring away may have said so in the meantime.
      if (this.call?.callId !== callId || this.call.phase !== "asking") return;
      this.#show({ phase: "ringing" });
      line.timer = setTimeout(() => void this.#hangUp("invite_timeout", "unanswered"), LIFETIME_MS);
    } catch (thrown) {
      await this.#fail(callId, thrown);
    }
  }

  async answer(): Promise<void> {
    const line = this.#line;
    if (line?.invite == null || this.call?.phase !== "ringing" || !this.call.incoming) return;
    const { callId } = this.call;
    clearTimeout(line.timer);
    this.#show({ phase: "connecting" });
    try {
      const local = await this.#media(callId, this.call.media);
      const connection = await this.#connect(callId, line, local);
      const sdp = await connection.answer(line.invite.sdp);
      for (const signal of line.early.splice(0)) await this.#signal(signal);
      if (this.#lineOf(callId) === null) return;
      await this.#say("m.call.answer", { answer: { type: "answer", sdp } });
      await this.#tell(callId, { media: "connecting" });
    } catch (thrown) {
      await this.#fail(callId, thrown);
    }
  }

  async decline(): Promise<void> {
    if (this.call?.phase !== "ringing" || !this.call.incoming) return;
    const said = this.#say("m.call.reject", {});
    this.#end("ended");
    this.call = null;
    this.#changed();
    await said.catch(() => undefined);
  }

  hangUp(): Promise<void> {
    const before = this.call?.phase === "ringing" || this.call?.phase === "asking";
    return this.#hangUp("user_hangup", before ? "cancelled" : "ended");
  }

  mute(muted: boolean): void {
    for (const track of this.call?.local?.getAudioTracks() ?? []) track.enabled = !muted;
    this.#show({ muted });
  }

  hide(hidden: boolean): void {
    for (const track of this.call?.local?.getVideoTracks() ?? []) track.enabled = !hidden;
    this.#show({ hidden });
  }

  /** Put a call that is over out of sight. */
  close(): void {
    if (this.call?.phase !== "over") return;
    this.call = null;
    this.#changed();
  }

  // What is heard.

  async #listen(stopped: AbortSignal): Promise<void> {
    let since: string | null = null;
    let failures = 0;
    while (!stopped.aborted) {
      const query = new URLSearchParams({
        filter: FILTER,
        set_presence: "offline",
        timeout: String(since === null ? 0 : POLL_MS),
        ...(since === null ? {} : { since }),
      });
      try {
        const more = { signal: stopped, limitMs: POLL_MS + ANSWER_MS };
        const page = await matrix(this.#home.tokens, "GET", `v3/sync?${query}`, undefined, more);
        since = String(page.next_batch);
        failures = 0;
        this.#hear(eventsOf(page));
        for (const listener of [...this.#listeners]) listener(page);
      } catch (thrown) {
        if (stopped.aborted || asProblem(thrown).signedOut) return;
        await pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)] ?? 0, stopped);
        failures += 1;
      }
    }
  }

  #hear(events: readonly RoomEvent[]): void {
    for (const invite of ringing(events, this.#me, Date.now())) this.#rung(invite);
    for (const event of events) {
      const signal = readSignal(event);
      if (signal !== null && !(signal.sender === this.#me && signal.partyId === this.#party)) void this.#signal(signal);
    }
  }

  #rung(invite: Invite): void {
    const now = this.call;
    if (now?.callId === invite.callId) return;
    if (now !== null && now.phase !== "over") {
      const crossed = !now.incoming && this.#line?.peerId === invite.caller;
      // Two who ring each other: the lesser id stays, which the homeservers see the same way.
      if (!crossed)
        void this.#send(invite.roomId, "m.call.reject", {
          ...common(invite.callId, this.#party),
          reason: "user_busy",
        }).catch(() => undefined);
      if (!crossed || now.callId < invite.callId) return;
      this.#end("cancelled");
    }
    const { callId, roomId, caller, media } = invite;
    this.#begin(
      { callId, peer: caller, incoming: true, media, phase: "ringing" },
      { roomId, peerId: caller, invite, peerParty: invite.partyId, connection: null, early: [] },
    );
    if (this.#line !== null)
      this.#line.timer = setTimeout(() => {
        if (this.call?.callId === callId && this.call.phase === "ringing") this.#end("unanswered");
      }, invite.leftMs);
    void this.#name(callId);
  }

  async #signal(signal: Signal): Promise<void> {
    const line = this.#lineOf(signal.callId);
    if (line === null || this.call === null || (line.roomId !== "" && line.roomId !== signal.roomId)) return;
    if (signal.sender === this.#me) {
      // Another of one's own devices.
      const taken = this.call.incoming && this.call.phase === "ringing";
      if (taken && (signal.kind === "answer" || signal.kind === "rejected")) this.#end("elsewhere");
      return;
    }
    if (signal.sender !== line.peerId) return;
    switch (signal.kind) {
      case "answer":
        await this.#answered(line, signal.callId, signal.partyId, signal.sdp);
        return;
      case "candidates":
      case "negotiate":
        if (line.peerParty !== null && signal.partyId !== line.peerParty) return;
        if (line.connection === null || line.peerParty === null) line.early.push(signal);
        else if (signal.kind === "candidates") await line.connection.add(signal.candidates);
        else await this.#negotiate(line.connection, signal.type, signal.sdp);
        return;
      case "selected":
        if (this.call.incoming && signal.selected !== this.#party) this.#end("elsewhere");
        return;
      case "rejected":
        if (!this.call.incoming && line.peerParty === null) this.#end(signal.busy ? "busy" : "declined");
        return;
      case "unavailable":
        if (!this.call.incoming && line.peerParty === null) this.#end("unavailable");
        return;
      case "over": {
        const rings = this.call.phase === "ringing";
        if (line.peerParty !== null && signal.partyId !== "" && signal.partyId !== line.peerParty) return;
        this.#end(!rings ? "ended" : this.call.incoming ? "unanswered" : "declined");
        return;
      }
    }
  }

  async #answered(line: Line, callId: string, partyId: string, sdp: string): Promise<void> {
    if (this.call?.incoming !== false || line.peerParty !== null || line.connection === null) return;
    line.peerParty = partyId;
    clearTimeout(line.timer);
    this.#show({ phase: "connecting" });
    try {
      await this.#say("m.call.select_answer", { selected_party_id: partyId });
      await line.connection.answered(sdp);
      for (const signal of line.early.splice(0)) if (signal.partyId === partyId) await this.#signal(signal);
      await this.#tell(callId, { media: "connecting" });
    } catch (thrown) {
      await this.#fail(callId, thrown);
    }
  }

  /** The other's client changes what it sends, a camera say. */
  async #negotiate(connection: Connection, type: "offer" | "answer", sdp: string): Promise<void> {
    if (type === "answer") await connection.answered(sdp);
    else {
      const description = { type: "answer", sdp: await connection.answer(sdp) };
      await this.#say("m.call.negotiate", { lifetime: LIFETIME_MS, description });
    }
  }

  // What is done.

  async #media(callId: string, media: Media): Promise<MediaStream> {
    const local = await ownMedia(media);
    if (this.#lineOf(callId) === null) for (const track of local.getTracks()) track.stop();
    else this.#show({ local, hidden: media === "video" && local.getVideoTracks().length === 0 });
    return local;
  }

  async #connect(callId: string, line: Line, local: MediaStream): Promise<Connection> {
    const connection = new Connection(await this.#servers(callId), local, {
      connected: () => {
        if (this.#lineOf(callId)?.connection !== connection || this.call?.phase === "connected") return;
        this.#show({ phase: "connected", sinceMs: Date.now() });
        void this.#tell(callId, { media: "connected" });
      },
      failed: () => {
        if (this.#lineOf(callId)?.connection === connection) void this.#hangUp("ice_failed", "failed");
      },
      candidates: (found) => {
        if (this.#lineOf(callId)?.connection === connection)
          void this.#say("m.call.candidates", { candidates: found }).catch(() => undefined);
      },
    });
    if (this.#lineOf(callId) === null) connection.close();
    else line.connection = connection;
    this.#show({ remote: connection.remote });
    return connection;
  }

  /** The relay of this homeserver, if it has one, and whether nothing else may be used. */
  async #servers(callId: string): Promise<RTCConfiguration> {
    const { api } = this.#home;
    try {
      const turn = await answerOf(api.GET("/calls/{call_id}/turn", { params: { path: { call_id: callId } } }));
      const server = { urls: turn.uris, username: turn.username, credential: turn.password };
      return { iceServers: [server], iceTransportPolicy: turn.relay_only === true ? "relay" : "all" };
    } catch (thrown) {
      if (!(thrown instanceof Problem && ["NO_TURN", "UNKNOWN_CALL"].includes(thrown.code))) throw thrown;
      // Who hides where they are is not connected directly because there is no other way.
      const policy = await answerOf(api.GET("/call_policy"));
      if (policy.relay_only) throw new Problem("NO_RELAY", t("phone.no_relay"));
      return {};
    }
  }

  async #hangUp(reason: string, ending: Ending): Promise<void> {
    const { call } = this;
    const line = this.#line;
    if (call === null || call.phase === "over") return;
    const quality = call.sinceMs === null ? null : await line?.connection?.quality().catch(() => null);
    if (this.#lineOf(call.callId) === null) return;
    const said = line === null || line.roomId === "" ? null : this.#say("m.call.hangup", { reason });
    this.#end(ending);
    await said?.catch(() => undefined);
    if (quality != null) await this.#tell(call.callId, { quality });
  }

  /** The page goes away in the middle of a call: the other is told while there is time. */
  #leave(): void {
    const line = this.#line;
    if (this.call === null || line === null || this.call.phase === "over") return;
    const mine = !this.call.incoming || this.call.phase !== "ringing";
    if (mine && line.roomId !== "")
      void this.#send(
        line.roomId,
        "m.call.hangup",
        { ...common(this.call.callId, this.#party), reason: "user_hangup" },
        true,
      ).catch(() => undefined);
    this.#end("ended");
  }

  async #fail(callId: string, thrown: unknown): Promise<void> {
    if (this.call?.callId !== callId || this.call.phase === "over") return;
    const problem =
      thrown instanceof DOMException ? new Problem("NO_MEDIA", t("phone.over.failed")) : asProblem(thrown);
    const answered = this.call.incoming;
    const said =
      this.#line === null || this.#line.roomId === ""
        ? null
        : this.#say("m.call.hangup", { reason: answered ? "user_media_failed" : "unknown_error" });
    this.#end(problem.code === "NOT_AVAILABLE" ? "unavailable" : "problem", problem);
    await said?.catch(() => undefined);
  }

  /** Tell the homeserver's history what only this client knows; the call goes on without it too. */
  async #tell(
    callId: string,
    body: { media?: "connecting" | "connected"; quality?: Awaited<ReturnType<Connection["quality"]>> },
  ): Promise<void> {
    const params = { path: { call_id: callId } };
    await answerOf(this.#home.api.POST("/calls/{call_id}/media", { params, body })).catch(() => undefined);
  }

  /** The handle of who rings, for what is shown. */
  async #name(callId: string): Promise<void> {
    const params = { path: { call_id: callId } };
    const record = await answerOf(this.#home.api.GET("/calls/{call_id}", { params })).catch(() => null);
    if (record?.peer_handle != null && this.call?.callId === callId) this.#show({ peer: record.peer_handle });
  }

  #say(type: string, content: Json): Promise<Json> {
    const { roomId } = this.#line ?? {};
    const { callId } = this.call ?? {};
    if (roomId === undefined || callId === undefined) return Promise.resolve({});
    return this.#send(roomId, type, { ...common(callId, this.#party), ...content });
  }

  #send(roomId: string, type: string, content: Json, keepalive = false): Promise<Json> {
    const path = `v3/rooms/${encodeURIComponent(roomId)}/send/${type}/${newId(8)}`;
    return matrix(this.#home.tokens, "PUT", path, content, { keepalive });
  }

  // What is shown.

  #lineOf(callId: string): Line | null {
    return this.call?.callId === callId && this.call.phase !== "over" ? this.#line : null;
  }

  #begin(call: Pick<CallNow, "callId" | "peer" | "incoming" | "media" | "phase">, line: Line): void {
    this.#line = line;
    this.call = {
      ...call,
      calleeId: null,
      ending: null,
      problem: null,
      sinceMs: null,
      muted: false,
      hidden: false,
      local: null,
      remote: null,
    };
    this.#changed();
  }

  #end(ending: Ending, problem: Problem | null = null): void {
    clearTimeout(this.#line?.timer);
    this.#line?.connection?.close();
    for (const track of this.call?.local?.getTracks() ?? []) track.stop();
    this.#line = null;
    this.#show({ phase: "over", ending, problem, local: null, remote: null });
    void refresh("calls");
  }

  #show(changed: Partial<CallNow>): void {
    if (this.call === null) return;
    this.call = { ...this.call, ...changed };
    this.#changed();
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

const phones = new WeakMap<Home, Phone>();

/** The phone of a session; there is one. */
export function phoneOf(home: Home): Phone {
  let phone = phones.get(home);
  if (phone === undefined) {
    phone = new Phone(home);
    phones.set(home, phone);
  }
  return phone;
}

export function eventsOf(page: Json): RoomEvent[] {
  const rooms = (page.rooms ?? {}) as {
    join?: Record<string, { timeline?: { events?: Omit<RoomEvent, "room_id">[] } }>;
  };
  return Object.entries(rooms.join ?? {}).flatMap(([roomId, room]) =>
    (room.timeline?.events ?? []).map((event) => ({ ...event, room_id: roomId })),
  );
}

export function newId(bytes: number): string {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function pause(ms: number, stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stopped.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

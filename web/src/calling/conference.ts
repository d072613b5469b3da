// The call of a room over a call server (LiveKit): any number of people, each sending once. Loaded when somebody enters one.
//
// Who may enter and what they may send is decided by whoever gives the token; here it is only shown, and followed.

import {
  DisconnectReason,
  LogLevel,
  type RemoteParticipant,
  Room,
  RoomEvent,
  setLogLevel,
  Track,
  type TrackPublishOptions,
} from "livekit-client";
import { HOMESERVER, type Json, matrix, NOBODY, send } from "../api.ts";
import type { Home } from "../home.ts";
import { asProblem, Problem, problemOf } from "../problem.ts";
import { c } from "../text/calling.ts";
import { Line, type Other, type Source } from "./line.ts";
import { personOf } from "./members.ts";
import { ownMedia } from "./media.ts";
import { Seat } from "./seat.ts";
import type { Media } from "./signals.ts";

const OWN_SERVICE = `${HOMESERVER}_synapse/client/superapp/livekit`;
/** The sources in the numbers of LiveKit's protocol. */
const SOURCES: Readonly<Record<number, Source>> = { 1: "camera", 2: "microphone", 3: "screen_share" };
const EVERYTHING: readonly Source[] = ["microphone", "camera", "screen_share"];

setLogLevel(LogLevel.error);

/** What of somebody else is shown; the streams stay the same while their tracks come and go. */
interface Seen {
  stream: MediaStream;
  screen: MediaStream;
}

export class Conference extends Line {
  readonly #home: Home;
  readonly #device: string;
  readonly #server: string;
  readonly #room = new Room({ dynacast: true, stopLocalTrackOnUnpublish: true });
  readonly #seen = new Map<string, Seen>();
  #seat: Seat | null = null;
  #ended = false;

  /** ``server`` is who gives tokens, as clients name it to each other. */
  constructor(home: Home, device: string, server: string) {
    super();
    this.#home = home;
    this.#device = device;
    this.#server = server;
  }

  async join(roomId: string, media: Media): Promise<void> {
    this.begin(roomId, media, this.#server);
    try {
      this.#listen();
      const { url, jwt } = await this.#token(roomId);
      await this.#connect(url, jwt);
      if (this.#ended) return;
      this.#seat = new Seat(this.#home, roomId, this.#device);
      addEventListener("pagehide", this.#gone);
      await this.#seat.take(this.#server);
      this.#follow();
      if (this.now?.may.includes("microphone") === true) await this.speak(media);
      if (!this.#ended) this.show({ phase: "in" });
    } catch (thrown) {
      await this.#end(asProblem(thrown));
    }
  }

  leave(): Promise<void> {
    return this.#end(null);
  }

  mute(muted: boolean): void {
    void this.#switch(Track.Source.Microphone, muted);
    this.show({ muted });
  }

  hide(hidden: boolean): void {
    void this.#switch(Track.Source.Camera, hidden);
    this.show({ hidden });
  }

  async speak(media: Media): Promise<void> {
    if (this.now === null || this.now.local !== null) return;
    const wanted = this.now.may.includes("camera") ? media : "audio";
    try {
      const local = await ownMedia(wanted);
      if (this.#ended) {
        stop(local);
        return;
      }
      this.show({
        local,
        media: wanted,
        muted: false,
        hidden: wanted === "video" && local.getVideoTracks().length === 0,
      });
      for (const track of local.getTracks())
        await this.#publish(track, track.kind === "audio" ? Track.Source.Microphone : Track.Source.Camera);
      if (this.now.local !== local) {
        this.#unpublish(local);
        return;
      }
      this.show({ problem: null });
    } catch (thrown) {
      // Who cannot be heard still hears.
      this.#hush();
      this.show({ problem: asProblem(thrown) });
    }
  }

  async share(on: boolean): Promise<void> {
    const { screen = null } = this.now ?? {};
    if (!on || screen !== null) {
      this.#unshare();
      return;
    }
    let shown: MediaStream;
    try {
      shown = await navigator.mediaDevices.getDisplayMedia({ video: true });
    } catch {
      // They chose nothing.
      return;
    }
    const [track] = shown.getVideoTracks();
    if (track === undefined) return;
    this.show({ screen: shown });
    // The browser has a button of its own for it.
    track.addEventListener("ended", () => this.#unshare());
    try {
      await this.#publish(track, Track.Source.ScreenShare);
      // They stopped before it was there.
      if (this.now?.screen !== shown) this.#unpublish(shown);
    } catch (thrown) {
      this.#unshare();
      this.show({ problem: asProblem(thrown) });
    }
  }

  // The way in.

  /** A token for this device. Who gives it asks this homeserver whose OpenID token it is. */
  async #token(roomId: string): Promise<{ url: string; jwt: string }> {
    const { tokens, session, about } = this.#home;
    const asked = `v3/user/${encodeURIComponent(session.userId)}/openid/request_token`;
    const openid_token = await matrix(tokens, "POST", asked, {});
    const own = this.#server === about.call_server;
    const request = new Request(`${own ? OWN_SERVICE : this.#server.replace(/\/$/, "")}/sfu/get`, {
      method: "POST",
      cache: "no-store",
      credentials: "omit",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ room: roomId, openid_token, device_id: this.#device }),
    });
    let response: Response;
    let said: Json;
    try {
      response = await send(NOBODY, request);
      said = (await response.json()) as Json;
    } catch (thrown) {
      // This page connects to its own homeserver's, and to those that its operator allows.
      if (!own) throw new Problem("NO_CALL_SERVER", c("elsewhere", { server: hostOf(this.#server) }));
      throw asProblem(thrown);
    }
    if (!response.ok) throw problemOf(response.status, said);
    return { url: String(said.url), jwt: String(said.jwt) };
  }

  async #connect(url: string, jwt: string): Promise<void> {
    try {
      await this.#room.connect(url, jwt);
    } catch {
      throw new Problem("NO_CALL_SERVER", c("unreachable", { server: hostOf(url) }));
    }
  }

  #listen(): void {
    const shown = () => this.#shown();
    this.#room
      .on(RoomEvent.ParticipantConnected, shown)
      .on(RoomEvent.ParticipantDisconnected, shown)
      .on(RoomEvent.TrackSubscribed, shown)
      .on(RoomEvent.TrackUnsubscribed, shown)
      .on(RoomEvent.TrackUnpublished, shown)
      .on(RoomEvent.TrackMuted, shown)
      .on(RoomEvent.TrackUnmuted, shown)
      .on(RoomEvent.ParticipantPermissionsChanged, (_, participant) => {
        if (participant === this.#room.localParticipant) this.#follow();
      })
      .on(RoomEvent.Disconnected, (reason) => void this.#end(whyOver(reason)));
  }

  /** What one may send: it changes while the call goes on. */
  #follow(): void {
    const { permissions } = this.#room.localParticipant;
    const sources = permissions?.canPublishSources ?? [];
    const may =
      permissions?.canPublish !== true
        ? []
        : sources.length === 0
          ? EVERYTHING
          : sources.flatMap((source) => SOURCES[source] ?? []);
    this.show({ may });
    if (!may.includes("microphone")) this.#hush();
    if (!may.includes("screen_share")) this.#unshare();
    this.#shown();
  }

  // What one sends.

  async #publish(track: MediaStreamTrack, source: Track.Source): Promise<void> {
    const options: TrackPublishOptions = { source, simulcast: source === Track.Source.Camera };
    await this.#room.localParticipant.publishTrack(track, options);
  }

  async #switch(source: Track.Source, off: boolean): Promise<void> {
    const track = this.#room.localParticipant.getTrackPublication(source)?.track;
    await (off ? track?.mute() : track?.unmute());
  }

  /** Nothing of one's own is sent any more, and the microphone and the camera are off. */
  #hush(): void {
    const local = this.now?.local ?? null;
    if (local === null) return;
    this.#unpublish(local);
    this.show({ local: null });
  }

  #unshare(): void {
    const screen = this.now?.screen ?? null;
    if (screen === null) return;
    this.show({ screen: null });
    this.#unpublish(screen);
  }

  #unpublish(stream: MediaStream): void {
    // What the call server took already is no fault.
    for (const track of stream.getTracks())
      void this.#room.localParticipant.unpublishTrack(track).catch(() => undefined);
    stop(stream);
  }

  // The others.

  #shown(): void {
    const here = new Set<string>();
    const others = [...this.#room.remoteParticipants.values()].map((participant): Other => {
      here.add(participant.sid);
      const { stream, screen } = this.#tracksOf(participant);
      return {
        key: participant.sid,
        userId: personOf(participant.identity, []),
        connected: true,
        stream,
        picture: stream.getVideoTracks().length > 0,
        screen: screen.getTracks().length > 0 ? screen : null,
      };
    });
    for (const sid of [...this.#seen.keys()]) if (!here.has(sid)) this.#seen.delete(sid);
    this.show({ others });
  }

  #tracksOf(participant: RemoteParticipant): Seen {
    let seen = this.#seen.get(participant.sid);
    if (seen === undefined) {
      seen = { stream: new MediaStream(), screen: new MediaStream() };
      this.#seen.set(participant.sid, seen);
    }
    const tracks = (wanted: boolean) =>
      [...participant.trackPublications.values()].flatMap(({ track, source, isMuted }) =>
        (source === Track.Source.ScreenShare) === wanted && track !== undefined && !(isMuted && track.kind === "video")
          ? [track.mediaStreamTrack]
          : [],
      );
    hold(seen.stream, tracks(false));
    hold(seen.screen, tracks(true));
    return seen;
  }

  // The end.

  readonly #gone = () => void this.leave();

  async #end(problem: Problem | null): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    removeEventListener("pagehide", this.#gone);
    this.#hush();
    this.#unshare();
    this.show({ phase: "over", problem, others: [] });
    await Promise.allSettled([this.#seat?.leave(), this.#room.disconnect()]);
  }
}

/** Put exactly these tracks into a stream. */
function hold(stream: MediaStream, tracks: readonly MediaStreamTrack[]): void {
  for (const track of stream.getTracks()) if (!tracks.includes(track)) stream.removeTrack(track);
  for (const track of tracks) stream.addTrack(track);
}

function stop(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

function whyOver(reason: DisconnectReason | undefined): Problem | null {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return null;
    case DisconnectReason.PARTICIPANT_REMOVED:
      return new Problem("REMOVED", c("removed"));
    case DisconnectReason.DUPLICATE_IDENTITY:
      return new Problem("ELSEWHERE", c("another_page"));
    default:
      return new Problem("CUT_OFF", c("cut_off"));
  }
}

function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

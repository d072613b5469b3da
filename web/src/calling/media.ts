// The media of one call: the microphone and the camera of this device, and the connection to the other.

import type { Candidate, Media } from "./signals.ts";
import { Problem } from "../problem.ts";
import { t } from "../text/index.ts";

/** How long candidates are gathered before an offer or an answer goes out; what comes later follows it. */
const GATHERED_MS = 1_500;

/** @throws {Problem} this device lets nobody hear or see one. */
export async function ownMedia(media: Media, width = 1280): Promise<MediaStream> {
  // There is none on a page that came unencrypted from another machine.
  const devices = navigator.mediaDevices as MediaDevices | undefined;
  try {
    if (devices === undefined) throw new TypeError();
    if (media === "audio") return await devices.getUserMedia({ audio: true });
    try {
      return await devices.getUserMedia({ audio: true, video: { width: { ideal: width } } });
    } catch (thrown) {
      // Without a camera one can still be heard.
      if (!(thrown instanceof DOMException && thrown.name === "NotFoundError")) throw thrown;
      return await devices.getUserMedia({ audio: true });
    }
  } catch {
    throw new Problem("NO_MICROPHONE", t("phone.no_microphone"));
  }
}

export interface Heard {
  connected: () => void;
  failed: () => void;
  /** Candidates that the offer or the answer came too early for. */
  candidates: (found: readonly Candidate[]) => void;
}

export class Connection {
  readonly remote = new MediaStream();
  readonly #peer: RTCPeerConnection;
  readonly #early: Candidate[] = [];
  #described = false;

  constructor(config: RTCConfiguration, local: MediaStream, heard: Heard) {
    this.#peer = new RTCPeerConnection(config);
    for (const track of local.getTracks()) this.#peer.addTrack(track, local);
    this.#peer.addEventListener("track", (event) => {
      if (!this.remote.getTracks().includes(event.track)) this.remote.addTrack(event.track);
    });
    this.#peer.addEventListener("connectionstatechange", () => {
      if (this.#peer.connectionState === "connected") heard.connected();
      if (this.#peer.connectionState === "failed") heard.failed();
    });
    this.#peer.addEventListener("icecandidate", (event) => {
      if (!this.#described || event.candidate === null || event.candidate.candidate === "") return;
      const { candidate, sdpMid, sdpMLineIndex } = event.candidate;
      heard.candidates([
        { candidate, ...(sdpMid === null ? {} : { sdpMid }), ...(sdpMLineIndex === null ? {} : { sdpMLineIndex }) },
      ]);
    });
  }

  /** The offer, with the candidates that were there in time. */
  async offer(media: Media): Promise<string> {
    // Who has no camera still sees the other's.
    if (media === "video" && !this.#peer.getTransceivers().some((each) => each.sender.track?.kind === "video"))
      this.#peer.addTransceiver("video", { direction: "recvonly" });
    await this.#peer.setLocalDescription(await this.#peer.createOffer());
    return this.#gathered();
  }

  /** The answer to an offer, with the candidates that were there in time. */
  async answer(sdp: string): Promise<string> {
    await this.#hears("offer", sdp);
    await this.#peer.setLocalDescription(await this.#peer.createAnswer());
    return this.#gathered();
  }

  async answered(sdp: string): Promise<void> {
    await this.#hears("answer", sdp);
  }

  async add(candidates: readonly Candidate[]): Promise<void> {
    if (this.#peer.remoteDescription === null) {
      this.#early.push(...candidates);
      return;
    }
    for (const candidate of candidates) {
      try {
        await this.#peer.addIceCandidate(candidate);
      } catch {
        // One that this browser cannot use; there are others.
      }
    }
  }

  close(): void {
    this.#peer.close();
  }

  /** How good it was, in the words of the homeserver's history. */
  async quality(): Promise<{ loss_permille?: number; jitter_ms?: number; round_trip_ms?: number; relayed?: boolean }> {
    const reports = [...(await this.#peer.getStats()).values()] as Record<string, unknown>[];
    const heard = reports.find((each) => each.type === "inbound-rtp" && each.kind === "audio");
    const pair = reports.find((each) => each.type === "candidate-pair" && each.nominated === true);
    const local = reports.find((each) => each.type === "local-candidate" && each.id === pair?.localCandidateId);
    const lost = Number(heard?.packetsLost ?? 0);
    const all = lost + Number(heard?.packetsReceived ?? 0);
    return {
      ...(all > 0 ? { loss_permille: Math.min(1_000, Math.max(0, Math.round((lost * 1_000) / all))) } : {}),
      ...(typeof heard?.jitter === "number" ? { jitter_ms: milliseconds(heard.jitter) } : {}),
      ...(typeof pair?.currentRoundTripTime === "number"
        ? { round_trip_ms: milliseconds(pair.currentRoundTripTime) }
        : {}),
      ...(local === undefined ? {} : { relayed: local.candidateType === "relay" }),
    };
  }

  async #hears(type: "offer" | "answer", sdp: string): Promise<void> {
    await this.#peer.setRemoteDescription({ type, sdp });
    await this.add(this.#early.splice(0));
  }

  async #gathered(): Promise<string> {
    await new Promise<void>((resolve) => {
      const done = () => {
        if (this.#peer.iceGatheringState === "complete") resolve();
      };
      this.#peer.addEventListener("icegatheringstatechange", done);
      setTimeout(resolve, GATHERED_MS);
      done();
    });
    this.#described = true;
    return this.#peer.localDescription?.sdp ?? "";
  }
}

function milliseconds(seconds: number): number {
  return Math.min(60_000, Math.round(seconds * 1_000));
}

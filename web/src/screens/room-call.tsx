// The call of a room, and the way into it by a link.

import { useEffect, useRef, useState } from "preact/hooks";
import { answer } from "../api.ts";
import { Toggle } from "../calling/controls.tsx";
import { meshOf, type MeshNow, type Other } from "../calling/mesh.ts";
import type { Media } from "../calling/signals.ts";
import { useHome } from "../home.ts";
import { Avatar, Button, Failure, Handle, Notice, Screen } from "../parts/basics.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { replace, to, useRoute } from "../route.ts";
import { t } from "../text/index.ts";

const KNOCK_MS = 3_000;

export function RoomCallScreen() {
  const roomId = useRoute().path[1] ?? "";
  const home = useHome();
  const mesh = meshOf(home);
  const [call, setCall] = useState<MeshNow | null>(null);
  useEffect(() => {
    const unwatch = mesh.watch(() => setCall(mesh.now));
    return () => {
      unwatch();
      // Who goes elsewhere in the app has left the call, and their camera is off.
      void mesh.leave();
    };
  }, [mesh]);
  const goesOn = call !== null && call.phase !== "over" && call.roomId === roomId;
  return (
    <Screen title={t("room_call")}>
      {call?.phase === "over" && call.problem !== null && <Failure problem={call.problem} />}
      {goesOn ? (
        <section class="card prose" aria-label={t("room_call")}>
          <p class="hint" role="status">
            {call.phase === "joining"
              ? t("room_call.joining")
              : call.others.length === 0
                ? t("room_call.alone")
                : t("room_call.with", { count: String(call.others.length) })}
          </p>
          <div class="mesh">
            <Tile name={t("phone.yours")} stream={call.local} own />
            {call.others.map((other) => (
              <Person key={other.key} other={other} />
            ))}
          </div>
          <div class="call-deeds">
            <Toggle icon="mic" label={t("phone.mute")} on={call.muted} onChange={(muted) => mesh.mute(muted)} />
            {call.media === "video" && (
              <Toggle icon="video" label={t("phone.hide")} on={call.hidden} onChange={(hidden) => mesh.hide(hidden)} />
            )}
            <Button kind="danger" icon="close" onClick={() => mesh.leave()}>
              {t("phone.hang_up")}
            </Button>
          </div>
        </section>
      ) : (
        <div class="card prose">
          <p>{t("room_call.hint")}</p>
          <div class="pair">
            {(["video", "audio"] as const).map((media: Media) => (
              <Button
                key={media}
                kind={media === "video" ? "main" : "plain"}
                icon={media === "video" ? "video" : "phone"}
                onClick={() => mesh.join(roomId, media)}
              >
                {media === "video" ? t("room_call.join.video") : t("room_call.join")}
              </Button>
            ))}
          </div>
        </div>
      )}
    </Screen>
  );
}

/** Where a link leads: into the room, or to the door of it until a host opens. */
export function CallLinkScreen() {
  const link = useRoute().path[1] ?? "";
  const { api } = useHome();
  const [waits, setWaits] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let here = true;
    const knock = async () => {
      try {
        const params = { path: { link } };
        const found = await answer(api.POST("/call_links/{link}/join", { params }));
        if (!here) return;
        if (found.room_id != null) replace(to("room-call", found.room_id));
        else {
          setWaits(true);
          timer = setTimeout(() => void knock(), KNOCK_MS);
        }
      } catch (thrown) {
        if (here) setProblem(asProblem(thrown));
      }
    };
    setProblem(null);
    void knock();
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [link, attempt]);
  return (
    <Screen title={t("room_call")}>
      {problem !== null ? (
        <Failure problem={problem} again={() => setAttempt(attempt + 1)} />
      ) : (
        <Notice icon="clock">
          <p>{waits ? t("room_call.waiting") : t("phone.asking")}</p>
        </Notice>
      )}
    </Screen>
  );
}

function Person({ other }: { other: Other }) {
  return (
    <Tile name={other.userId} stream={other.connected ? other.stream : null}>
      <span class="hint">{other.connected ? "" : t("phone.connecting")}</span>
    </Tile>
  );
}

function Tile(props: { name: string; stream: MediaStream | null; own?: boolean; children?: preact.ComponentChildren }) {
  const element = useRef<HTMLVideoElement>(null);
  const { name, stream, own = false } = props;
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = stream;
  }, [stream]);
  return (
    <figure class={own ? "own" : ""}>
      <video ref={element} autoplay playsInline muted={own} aria-label={name} />
      <figcaption>
        {!own && <Avatar name={name} />}
        {own ? <span>{name}</span> : <Handle handle={name} />} {props.children}
      </figcaption>
    </figure>
  );
}

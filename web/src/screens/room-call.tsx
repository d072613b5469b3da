// The call of a room, and the way into it by a link.

import { useEffect, useRef, useState } from "preact/hooks";
import { answer } from "../api.ts";
import { Toggle } from "../calling/controls.tsx";
import type { Other, RoomCallNow } from "../calling/line.ts";
import { roomCallOf } from "../calling/room-call.ts";
import type { Media } from "../calling/signals.ts";
import { amountIn } from "../fares.ts";
import { useHome } from "../home.ts";
import type { Money } from "../money.ts";
import { Avatar, Button, Failure, Handle, Notice, Screen } from "../parts/basics.tsx";
import { OwnRole, People, Rules, useStage, WaitingRoom } from "../parts/stage.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { replace, to, useRoute } from "../route.ts";
import type { StageShown } from "../schema.ts";
import { c } from "../text/calling.ts";
import { t } from "../text/index.ts";

const KNOCK_MS = 3_000;

export function RoomCallScreen() {
  const roomId = useRoute().path[1] ?? "";
  const home = useHome();
  const { about } = home;
  const roomCall = roomCallOf(home);
  const [call, setCall] = useState<RoomCallNow | null>(null);
  const stage = useStage(roomId);
  useEffect(() => {
    const unwatch = roomCall.watch(() => setCall(roomCall.now));
    return () => {
      unwatch();
      // Who goes elsewhere in the app has left the call, and their camera is off.
      void roomCall.leave();
    };
  }, [roomCall]);
  const goesOn = call !== null && call.phase !== "over" && call.roomId === roomId;
  // Who may be heard is enforced at the call server; a call from browser to browser has none, and everybody is heard.
  const rules = stage.value !== undefined && home.about.call_server != null ? stage.value : null;
  // What it costs stays on the page when the call is over.
  const asks = stage.value?.asks;
  const reach = useReach(about.features.includes("payments"));
  return (
    <Screen title={t("room_call")} back={to("calls")}>
      {call !== null && call.problem !== null && <Failure problem={call.problem} />}
      {goesOn ? (
        <Going call={call} rules={rules} />
      ) : asks == null ? (
        <Door roomId={roomId} rules={rules} />
      ) : (
        reach !== null && <reach.PriceAsk callee={asks.payee} link={asks.link} asked={asks} confirmed={stage.again} />
      )}
      {reach !== null && call !== null && call.roomId === roomId && <reach.Cost room={roomId} over={!goesOn} />}
      {stage.value === undefined && stage.problem !== undefined && (
        <Failure problem={stage.problem} again={stage.again} />
      )}
      {stage.value?.your_role === "host" && <WaitingRoom roomId={roomId} />}
      {rules !== null && <People stage={rules} here={goesOn ? call.others.map((each) => each.userId) : []} />}
      {rules !== null && <Rules stage={rules} />}
    </Screen>
  );
}

/** What asks for money, loaded where there may be some to pay. */
function useReach(wanted: boolean): typeof import("../parts/reach.tsx") | null {
  const [reach, setReach] = useState<typeof import("../parts/reach.tsx") | null>(null);
  useEffect(() => {
    if (wanted)
      import("../parts/reach.tsx").then(
        (loaded) => setReach(loaded),
        () => undefined,
      );
  }, [wanted]);
  return reach;
}

/** Before one enters. On a stage listeners need no microphone. */
function Door({ roomId, rules }: { roomId: string; rules: StageShown | null }) {
  const roomCall = roomCallOf(useHome());
  const live = rules?.stage === true;
  const ways: readonly Media[] = rules?.media === "audio" ? ["audio"] : ["video", "audio"];
  return (
    <div class="card prose">
      <p>{live ? c("rules.live.hint") : t("room_call.hint")}</p>
      <div class="pair">
        {live && rules.can_publish.length === 0 ? (
          <Button kind="main" icon="phone" onClick={() => roomCall.join(roomId, "audio")}>
            {c("enter_live")}
          </Button>
        ) : (
          ways.map((media, index) => (
            <Button
              key={media}
              kind={index === 0 ? "main" : "plain"}
              icon={media === "video" ? "video" : "phone"}
              onClick={() => roomCall.join(roomId, media)}
            >
              {media === "video" ? t("room_call.join.video") : t("room_call.join")}
            </Button>
          ))
        )}
      </div>
    </div>
  );
}

function Going({ call, rules }: { call: RoomCallNow; rules: StageShown | null }) {
  const { about } = useHome();
  const roomCall = roomCallOf(useHome());
  return (
    <section class="card prose" aria-label={t("room_call")}>
      <p class="hint" role="status">
        {call.phase === "joining"
          ? t("room_call.joining")
          : call.others.length === 0
            ? t("room_call.alone")
            : t("room_call.with", { count: String(call.others.length) })}
      </p>
      <div class="mesh">
        {call.local !== null && (
          <Tile name={t("phone.yours")} stream={call.local} picture={call.local.getVideoTracks().length > 0} own />
        )}
        {call.others.map((other) => (
          <Person key={other.key} other={other} />
        ))}
      </div>
      {rules !== null && call.phase === "in" && <OwnRole stage={rules} />}
      {call.screen !== null && (
        <Notice icon="screen">
          <p>{c("your_screen")}</p>
        </Notice>
      )}
      <div class="call-deeds">
        {call.local !== null && (
          <Toggle icon="mic" label={t("phone.mute")} on={call.muted} onChange={(muted) => roomCall.mute(muted)} />
        )}
        {call.local !== null && call.media === "video" && (
          <Toggle icon="video" label={t("phone.hide")} on={call.hidden} onChange={(hidden) => roomCall.hide(hidden)} />
        )}
        {call.phase === "in" && call.way !== null && call.local === null && call.may.includes("microphone") && (
          <Button kind="main" icon="mic" onClick={() => roomCall.speak("audio")}>
            {c("speak")}
          </Button>
        )}
        {call.may.includes("screen_share") && (
          <Toggle
            icon="screen"
            label={c("share")}
            on={call.screen !== null}
            onChange={(on) => void roomCall.share(on)}
          />
        )}
        <Button kind="danger" icon="close" onClick={() => roomCall.leave()}>
          {t("phone.hang_up")}
        </Button>
      </div>
      {call.way !== null && (
        <p class="hint">
          {c("over_server", { server: call.way === about.call_server ? about.server_name : hostOf(call.way) })}
        </p>
      )}
    </section>
  );
}

function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

/** Where a link leads: into the room, or to the door of it until a host opens. */
export function CallLinkScreen() {
  const link = useRoute().path[1] ?? "";
  const { api } = useHome();
  const [asks, setAsks] = useState<{ payee: string; asked: Money } | null>(null);
  const reach = useReach(asks !== null);
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
        const found = asProblem(thrown);
        const asked = found.code === "PRICE_NOT_CONFIRMED" ? amountIn(found.fields) : null;
        if (asked === null) {
          if (here) setProblem(found);
          return;
        }
        try {
          const { host } = await answer(api.GET("/call_links/{link}", { params: { path: { link } } }));
          if (here) setAsks({ payee: host, asked });
        } catch (other) {
          if (here) setProblem(asProblem(other));
        }
      }
    };
    setProblem(null);
    setAsks(null);
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
      ) : asks !== null && reach !== null ? (
        <reach.PriceAsk callee={asks.payee} link={link} asked={asks.asked} confirmed={() => setAttempt(attempt + 1)} />
      ) : (
        <Notice icon="clock">
          <p>{waits ? t("room_call.waiting") : t("phone.asking")}</p>
        </Notice>
      )}
    </Screen>
  );
}

function Person({ other }: { other: Other }) {
  // Apps of another kind are known to the call server by names that say nothing.
  const name = other.userId.startsWith("@") ? other.userId : c("someone");
  return (
    <>
      <Tile name={name} stream={other.connected ? other.stream : null} picture={other.picture}>
        <span class="hint">{other.connected ? "" : t("phone.connecting")}</span>
      </Tile>
      {other.screen !== null && <Tile name={c("screen_of", { name })} stream={other.screen} picture screen />}
    </>
  );
}

function Tile(props: {
  name: string;
  stream: MediaStream | null;
  picture: boolean;
  own?: boolean;
  screen?: boolean;
  children?: preact.ComponentChildren;
}) {
  const element = useRef<HTMLVideoElement>(null);
  const { name, stream, picture, own = false, screen = false } = props;
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = stream;
  }, [stream]);
  return (
    <figure class={[own ? "own" : "", picture ? "" : "sound", screen ? "screen" : ""].filter(Boolean).join(" ")}>
      <video ref={element} autoplay playsInline muted={own} aria-label={name} />
      <figcaption>
        {!own && !screen && <Avatar name={name} />}
        {own || screen || !name.startsWith("@") ? <span>{name}</span> : <Handle handle={name} />} {props.children}
      </figcaption>
    </figure>
  );
}

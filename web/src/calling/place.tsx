// The call that rings or goes on, over whatever screen one is on.

import { useEffect, useRef, useState } from "preact/hooks";
import { useHome } from "../home.ts";
import { Avatar, Button, Failure, Handle } from "../parts/basics.tsx";
import { locale, t } from "../text/index.ts";
import { Toggle } from "./controls.tsx";
import { type CallNow, phoneOf } from "./phone.ts";
import { beginRinging } from "./tone.ts";

const SECOND_MS = 1_000;
/** Refusals that are over once they are paid for. */
const ASKS: readonly string[] = ["PRICE_NOT_CONFIRMED", "DEPOSIT_REQUIRED"];

export function CallPlace() {
  const home = useHome();
  const phone = phoneOf(home);
  const [call, setCall] = useState<CallNow | null>(phone.call);
  useEffect(() => {
    const unwatch = phone.watch(() => setCall(phone.call));
    phone.start();
    setCall(phone.call);
    return () => {
      phone.stop();
      unwatch();
    };
  }, [phone]);
  const paid = home.about.features.includes("payments") && call?.incoming === false;
  const [reach, setReach] = useState<typeof import("../parts/reach.tsx") | null>(null);
  useEffect(() => {
    // Without the file a call that costs nothing goes on as it is, and the sentence of a refusal is shown.
    if (paid)
      import("../parts/reach.tsx").then(
        (found) => setReach(found),
        () => undefined,
      );
  }, [paid]);
  const rings = call?.incoming === true && call.phase === "ringing";
  useEffect(() => (rings ? beginRinging() : undefined), [rings]);
  if (call === null) return null;
  const video = call.media === "video" && call.phase !== "over" && !rings;
  return (
    <section class={`call${video ? " with-video" : ""}`} aria-label={t("phone")}>
      {video && (
        <div class="call-pictures">
          <Picture stream={call.remote} label={t("phone.theirs")} />
          <Picture stream={call.local} label={t("phone.yours")} own />
        </div>
      )}
      {!video && call.phase !== "over" && <Sound stream={call.remote} />}
      <div class="call-who">
        <Avatar name={call.peer} />
        <p>
          <Handle handle={call.peer} />
          <span class="hint" role="status">
            <State call={call} />
          </span>
        </p>
      </div>
      {call.calleeId !== null && call.phase !== "asking" && paid && reach !== null && (
        <reach.Cost key={call.callId} callee={call.calleeId} over={call.phase === "over"} />
      )}
      {call.problem !== null &&
        (reach !== null && ASKS.includes(call.problem.code) ? (
          <reach.default
            problem={call.problem}
            person={call.peer}
            label={t("phone.pay_and_ring")}
            again={() => void phone.ring(call.peer, call.media)}
          />
        ) : (
          <Failure problem={call.problem} />
        ))}
      {rings ? (
        <div class="pair">
          <Button kind="main" icon={call.media === "video" ? "video" : "phone"} onClick={() => phone.answer()}>
            {t("phone.answer")}
          </Button>
          <Button kind="danger" icon="close" onClick={() => phone.decline()}>
            {t("phone.decline")}
          </Button>
        </div>
      ) : call.phase === "over" ? (
        <Button icon="close" onClick={() => phone.close()}>
          {t("close")}
        </Button>
      ) : (
        <div class="call-deeds">
          <Toggle icon="mic" label={t("phone.mute")} on={call.muted} onChange={(muted) => phone.mute(muted)} />
          {call.media === "video" && (
            <Toggle icon="video" label={t("phone.hide")} on={call.hidden} onChange={(hidden) => phone.hide(hidden)} />
          )}
          <Button kind="danger" icon="close" onClick={() => phone.hangUp()}>
            {t("phone.hang_up")}
          </Button>
        </div>
      )}
    </section>
  );
}

function State({ call }: { call: CallNow }) {
  const { phase, ending, sinceMs } = call;
  if (phase === "connected" && sinceMs !== null) return <Lasting sinceMs={sinceMs} />;
  if (phase === "over")
    return <>{ending === null || ending === "problem" ? t("phone.over.failed") : t(`phone.over.${ending}`)}</>;
  if (phase === "ringing" && call.incoming)
    return <>{call.media === "video" ? t("phone.incoming.video") : t("phone.incoming")}</>;
  return <>{phase === "asking" || phase === "ringing" ? t(`phone.${phase}`) : t("phone.connecting")}</>;
}

/** How long it has lasted. Screen readers hear once that it is connected, not every second. */
function Lasting({ sinceMs }: { sinceMs: number }) {
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), SECOND_MS);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.floor((nowMs - sinceMs) / SECOND_MS));
  const two = new Intl.NumberFormat(locale(), { minimumIntegerDigits: 2 });
  return (
    <>
      {t("phone.connected")}{" "}
      <span aria-hidden="true">
        {two.format(Math.floor(seconds / 60))}:{two.format(seconds % 60)}
      </span>
    </>
  );
}

function Picture({ stream, label, own = false }: { stream: MediaStream | null; label: string; own?: boolean }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = stream;
  }, [stream]);
  return <video ref={element} class={own ? "own" : "other"} autoplay playsInline muted={own} aria-label={label} />;
}

function Sound({ stream }: { stream: MediaStream | null }) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = stream;
  }, [stream]);
  return <audio ref={element} autoplay />;
}

// Reading somebody's code, by the camera or from a picture. Nothing of either leaves the page.

import { useEffect, useRef, useState } from "preact/hooks";
import decodeQR from "qr/decode.js";
import { type PayLink, readLink } from "../links.ts";
import { Button, Notice, Screen } from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { to } from "../route.ts";
import { t } from "../text/index.ts";
import { openLink } from "./send.tsx";

type Sight = "asking" | "seeing" | "refused" | "none";
const LARGEST_SIDE = 1000;

export function ScanScreen() {
  const video = useRef<HTMLVideoElement>(null);
  const [sight, setSight] = useState<Sight>("asking");
  const [stranger, setStranger] = useState<string | null>(null);
  const [unread, setUnread] = useState(false);

  const found = (text: string): boolean => {
    const link: PayLink | null = readLink(text);
    if (link === null) setStranger(text);
    else openLink(link);
    return link !== null;
  };

  useEffect(() => {
    let stream: MediaStream | null = null;
    let stopped = false;
    let timer: ReturnType<typeof setTimeout>;
    const look = () => {
      if (stopped) return;
      const seen = video.current === null || video.current.videoWidth === 0 ? null : read(video.current);
      if (seen !== null && found(seen)) return;
      timer = setTimeout(look, 150);
    };
    const start = async () => {
      try {
        // Not there on pages without https.
        if (navigator.mediaDevices === undefined) throw new DOMException("", "NotFoundError");
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        if (stopped || video.current === null) return stop();
        video.current.srcObject = stream;
        await video.current.play();
        setSight("seeing");
        look();
      } catch (thrown) {
        if (!stopped)
          setSight(thrown instanceof DOMException && thrown.name === "NotAllowedError" ? "refused" : "none");
      }
    };
    const stop = () => {
      stopped = true;
      clearTimeout(timer);
      for (const track of stream?.getTracks() ?? []) track.stop();
    };
    void start();
    return stop;
  }, []);

  return (
    <Screen title={t("scan")} back={to()}>
      <div class={`viewfinder ${sight}`}>
        <video ref={video} muted playsInline aria-label={t("scan.camera")} />
        {sight !== "seeing" && (
          <p role="status">
            <Icon name="camera" size={32} />
            {sight === "asking" ? t("scan.asking") : sight === "refused" ? t("scan.refused") : t("scan.none")}
          </p>
        )}
      </div>
      <p class="hint centre">{t("scan.hint")}</p>
      {stranger !== null && (
        <Notice icon="warn" kind="warn">
          <p>{t("scan.stranger")}</p>
          <p>
            <code>{stranger.slice(0, 200)}</code>
          </p>
        </Notice>
      )}
      {unread && (
        <Notice icon="warn" kind="warn">
          <p role="alert">{t("scan.unread")}</p>
        </Notice>
      )}
      <PictureButton
        onPicture={async (file) => {
          setUnread(false);
          setStranger(null);
          const seen = await readPicture(file);
          if (seen === null) setUnread(true);
          else found(seen);
        }}
      />
    </Screen>
  );
}

function PictureButton({ onPicture }: { onPicture: (file: File) => Promise<void> }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class="centre">
      <input
        ref={input}
        class="unseen"
        id="picture"
        type="file"
        accept="image/*"
        aria-label={t("scan.picture")}
        tabIndex={-1}
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          event.currentTarget.value = "";
          if (file !== undefined) void onPicture(file);
        }}
      />
      <Button icon="image" onClick={() => input.current?.click()}>
        {t("scan.picture")}
      </Button>
    </div>
  );
}

async function readPicture(file: File): Promise<string | null> {
  try {
    return read(await createImageBitmap(file));
  } catch {
    return null;
  }
}

function read(picture: HTMLVideoElement | ImageBitmap): string | null {
  const [fullWidth, fullHeight] =
    picture instanceof HTMLVideoElement ? [picture.videoWidth, picture.videoHeight] : [picture.width, picture.height];
  const shrink = Math.min(1, LARGEST_SIDE / Math.max(fullWidth, fullHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(fullWidth * shrink);
  canvas.height = Math.round(fullHeight * shrink);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) return null;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  try {
    return decodeQR(context.getImageData(0, 0, canvas.width, canvas.height));
  } catch {
    // No code in sight.
    return null;
  }
}

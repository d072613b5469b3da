// The app as a widget in another client: its session is made of the client's OpenID token, and only reads.

import "./style.css";
import { WidgetApi } from "matrix-widget-api";
import { render } from "preact";
import { answer, NOBODY, openApi, type Tokens } from "./api.ts";
import { appAddress, type Home, HomeContext, type WidgetRoom } from "./home.ts";
import { Failure, LinkButton } from "./parts/basics.tsx";
import { asProblem, Problem } from "./problem.ts";
import type { About } from "./schema.ts";
import type { WidgetSession } from "./session.ts";
import { Shell } from "./shell.tsx";
import { started } from "./started.ts";
import { loadLanguage, t } from "./text/index.ts";
import { showTheme } from "./theme.ts";
import { Room } from "./widget-room.ts";

/** How long a client may take to say what the widget may do in the room, before the wallet opens without that. */
const NEGOTIATED_MS = 3_000;
/** How long a client may take to say who one is. */
const ASKED_MS = 60_000;

/** The wallet of an account, behind the sticker button. It follows one from room to room, so its address names none. */
const STICKER_MENU = "org.superapp.wallet";

const query = new URLSearchParams(location.search);

// Clients speak to a widget as soon as its page has loaded, so the ear is there before anything is waited for.
const client = new WidgetApi(query.get("widgetId"), originOf(query.get("parentUrl")));
const room = new Room(client);
const ready = new Promise<void>((resolve) => client.once("ready", () => resolve()));
// A client asks once what the widget wants to do and gives up after ten seconds; one that was busy never asks again.
// So the wallet does not wait for it long.
client.start();

function originOf(url: string | null): string | null {
  try {
    return url === null ? null : new URL(url).origin;
  } catch {
    return null;
  }
}

async function signIn(about: About): Promise<WidgetSession> {
  const credentials = await credentialsOf(performance.now() + ASKED_MS);
  const { access_token, matrix_server_name } = credentials;
  if (access_token === undefined || matrix_server_name === undefined)
    throw new Problem("WIDGET_REFUSED", t("widget.refused"));
  if (matrix_server_name !== about.server_name)
    throw new Problem(
      "WIDGET_ELSEWHERE",
      t("widget.elsewhere", { here: about.server_name, there: matrix_server_name }),
    );
  const session = await answer(
    openApi(NOBODY).POST("/sessions/openid", { body: { access_token, matrix_server_name } }),
  );
  return { kind: "widget", userId: session.user_id, token: session.token, expiresMs: session.expires_ts };
}

/** What the client gives to show who one is; asked again where it does not answer, until ``lastMs``. */
async function credentialsOf(lastMs: number): Promise<Awaited<ReturnType<WidgetApi["requestOpenIDConnectToken"]>>> {
  try {
    return await client.requestOpenIDConnectToken();
  } catch (thrown) {
    if (!(thrown instanceof Error && thrown.message === "Request timed out"))
      throw new Problem("WIDGET_REFUSED", t("widget.refused"));
    if (performance.now() > lastMs) throw new Problem("WIDGET_ALONE", t("widget.alone"));
    return credentialsOf(lastMs);
  }
}

function tokensOf(about: About, session: WidgetSession): Tokens {
  let renewing: Promise<boolean> | null = null;
  const tokens: Tokens = {
    token: session.token,
    renew: () => {
      renewing ??= (async () => {
        tokens.token = (await signIn(about)).token;
        return true;
      })().finally(() => {
        renewing = null;
      });
      return renewing;
    },
  };
  return tokens;
}

async function start(): Promise<void> {
  const root = document.getElementById("root");
  if (root === null) return;
  const theme = query.get("theme");
  showTheme(theme === "light" || theme === "dark" ? theme : "system");
  await loadLanguage();
  const attempt = async () => {
    try {
      if (parent === window) throw new Problem("WIDGET_ALONE", t("widget.alone"));
      const [about] = await Promise.all([answer(openApi(NOBODY).GET("/about")), negotiated()]);
      const session = await signIn(about);
      const tokens = tokensOf(about, session);
      const fixed = query.get("widgetId") === STICKER_MENU ? null : roomOf(query.get("roomId"));
      const around: WidgetRoom = { roomId: fixed, postCard: (card) => room.post(card) };
      const home: Home = { session, tokens, about, api: openApi(tokens), widget: around, leave: async () => undefined };
      render(
        <HomeContext.Provider value={home}>
          <Shell />
        </HomeContext.Provider>,
        root,
      );
    } catch (thrown) {
      render(
        <main class="sign-in">
          <img src="../icon.svg" alt="" width="64" height="64" />
          <h1>{t("widget.closed")}</h1>
          <Failure problem={asProblem(thrown)} again={attempt} />
          <LinkButton href={appAddress("")} icon="external" kind="main" outside>
            {t("widget.open_app")}
          </LinkButton>
        </main>,
        root,
      );
    }
  };
  await attempt();
  started(root);
}

/** Once the client has said what the widget may do, or has let it wait. */
function negotiated(): Promise<void> {
  return Promise.race([ready, new Promise<void>((resolve) => setTimeout(resolve, NEGOTIATED_MS))]);
}

/** Clients fill in a variable that they know and leave one that they do not. */
function roomOf(given: string | null): string | null {
  return given?.startsWith("!") === true ? given : null;
}

void start();

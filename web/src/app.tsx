// The app by itself, with a session of Matrix.

import "./style.css";
import { render } from "preact";
import { useMemo, useState } from "preact/hooks";
import { answer, HOMESERVER, NOBODY, openApi } from "./api.ts";
import { comingBack, tokensOf } from "./arrival.ts";
import { Failure } from "./parts/basics.tsx";
import { asProblem, type Problem } from "./problem.ts";
import { type Home, HomeContext } from "./home.ts";
import { forgetEverything } from "./resources.ts";
import type { About } from "./schema.ts";
import { SignIn } from "./screens/sign-in.tsx";
import { dropSession, keepSession, type MatrixSession, sessionEnded, signOut, storedSession } from "./session.ts";
import { Shell } from "./shell.tsx";
import { loadLanguage, t } from "./text/index.ts";
import { chosenTheme, showTheme } from "./theme.ts";
import { started } from "./started.ts";
import { registerWorker } from "./worker.ts";

function App(props: { about: About; session: MatrixSession | null; problem: Problem | null }) {
  const [session, setSession] = useState(props.session);
  const [notice, setNotice] = useState(() =>
    props.session === null && sessionEnded() ? t("problem.signed_out") : null,
  );
  const home = useMemo((): Home | null => {
    if (session === null) return null;
    const tokens = tokensOf(session, () => {
      forgetEverything();
      dropSession();
      setNotice(t("problem.signed_out"));
      setSession(null);
    });
    const leave = async () => {
      await signOut(session);
      forgetEverything();
      location.hash = "";
      setNotice(t("sign_out.done"));
      setSession(null);
    };
    return { session, tokens, about: props.about, api: openApi(tokens), widget: null, leave };
  }, [session]);
  if (home === null)
    return (
      <SignIn
        serverName={props.about.server_name}
        notice={notice}
        problem={props.problem}
        onSignedIn={(found) => {
          keepSession(found);
          setNotice(null);
          setSession(found);
        }}
      />
    );
  return (
    <HomeContext.Provider value={home}>
      <Shell />
    </HomeContext.Provider>
  );
}

async function start(): Promise<void> {
  const root = document.getElementById("root");
  if (root === null) return;
  showTheme(chosenTheme());
  await loadLanguage();
  let problem: Problem | null = null;
  let session = storedSession();
  try {
    session = (await comingBack()) ?? session;
  } catch (thrown) {
    problem = asProblem(thrown);
  }
  const attempt = async () => {
    try {
      const about = await answer(openApi(NOBODY).GET("/about"));
      render(<App about={about} session={session} problem={problem} />, root);
    } catch (thrown) {
      render(
        <main class="sign-in">
          <img src="../icon.svg" alt="" width="64" height="64" />
          <h1>{t("start.failed")}</h1>
          <p class="hint">{new URL(HOMESERVER).host}</p>
          <Failure problem={asProblem(thrown)} again={attempt} />
        </main>,
        root,
      );
    }
  };
  await attempt();
  started(root);
}

void start();
registerWorker().catch(() => undefined);

// The way in: by password, or over the page to which the homeserver delegates it.

import { useEffect, useState } from "preact/hooks";
import { HOMESERVER } from "../api.ts";
import { rememberPlace } from "../arrival.ts";
import { Button, Failure, Field, Notice, Skeleton } from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { asProblem, Problem } from "../problem.ts";
import { type MatrixSession, type SignInWays, signIn, signInWays } from "../session.ts";
import { t } from "../text/index.ts";

export function SignIn(props: {
  serverName: string;
  notice: string | null;
  problem: Problem | null;
  onSignedIn: (session: MatrixSession) => void;
}) {
  const [ways, setWays] = useState<SignInWays | null>(null);
  const [problem, setProblem] = useState<Problem | null>(props.problem);
  const [busy, setBusy] = useState(false);
  const look = async () => {
    try {
      // What came of an attempt before stays to be read.
      setWays(await signInWays());
    } catch (thrown) {
      setProblem(asProblem(thrown));
    }
  };
  const lookAgain = async () => {
    setProblem(null);
    await look();
  };
  useEffect(() => {
    document.title = `${t("sign_in")} – Super App`;
    void look();
  }, []);
  return (
    <main class="sign-in">
      <img src="../icon.svg" alt="" width="64" height="64" />
      <h1>{t("sign_in.title")}</h1>
      <p class="hint">{props.serverName}</p>
      {props.notice !== null && (
        <Notice icon="person">
          <p role="status">{props.notice}</p>
        </Notice>
      )}
      {problem !== null && <Failure problem={problem} {...(ways === null ? { again: lookAgain } : {})} />}
      {ways === null && problem === null && <Skeleton rows={2} />}
      {ways?.password === true && (
        <PasswordForm onProblem={setProblem} onSignedIn={props.onSignedIn} serverName={props.serverName} />
      )}
      {(ways?.delegated === true || ways?.sso === true) && (
        <Button
          kind="main"
          wide
          icon="external"
          busy={busy}
          onClick={async () => {
            setBusy(true);
            try {
              rememberPlace();
              location.href = ways.delegated ? await (await import("../oauth.ts")).begin() : ssoAddress();
            } catch (thrown) {
              setProblem(asProblem(thrown));
              setBusy(false);
            }
          }}
        >
          {t("sign_in.delegated")}
        </Button>
      )}
      {ways !== null && !ways.password && !ways.delegated && !ways.sso && (
        <Failure problem={new Problem("NO_WAY", t("sign_in.no_way"))} />
      )}
      <p class="hint">
        <a href="../">{t("sign_in.new")}</a>
      </p>
    </main>
  );
}

function ssoAddress(): string {
  const here = location.origin + location.pathname;
  return `${HOMESERVER}_matrix/client/v3/login/sso/redirect?redirectUrl=${encodeURIComponent(here)}`;
}

function PasswordForm(props: {
  serverName: string;
  onProblem: (problem: Problem | null) => void;
  onSignedIn: (session: MatrixSession) => void;
}) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  return (
    <form
      class="card prose"
      onSubmit={async (event) => {
        event.preventDefault();
        setBusy(true);
        props.onProblem(null);
        try {
          props.onSignedIn(await signIn(name.trim(), password));
        } catch (thrown) {
          const problem = asProblem(thrown);
          props.onProblem(
            problem.code === "M_FORBIDDEN" ? new Problem("M_FORBIDDEN", t("sign_in.wrong"), 403) : problem,
          );
          setBusy(false);
        }
      }}
    >
      <Field id="name" label={t("sign_in.name")} hint={t("sign_in.name.hint", { server: props.serverName })}>
        <input
          id="name"
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          aria-describedby="name-hint"
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
      </Field>
      <Field id="password" label={t("sign_in.password")}>
        <input
          id="password"
          type="password"
          autocomplete="current-password"
          required
          value={password}
          onInput={(event) => setPassword(event.currentTarget.value)}
        />
      </Field>
      <Button kind="main" type="submit" wide busy={busy}>
        {t("sign_in")}
      </Button>
      <p class="hint lock">
        <Icon name="shield" size={16} /> {t("sign_in.promise")}
      </p>
    </form>
  );
}

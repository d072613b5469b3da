// A policy of the person's, in a form that is saved as soon as something in it changes.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Json } from "../api.ts";
import { accountData, setAccountData, useHome } from "../home.ts";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import { t } from "../text/index.ts";
import { Failure, Loaded } from "./basics.tsx";

export function Policy(props: {
  type: string;
  /** Writes what differs; without it the whole is written. */
  keep?: (next: Json, before: Json | null) => Promise<unknown>;
  children: (policy: Json | null, save: (next: Json) => Promise<void>) => ComponentChildren;
}) {
  const home = useHome();
  const key = `policy ${props.type}`;
  // In an object, since "there is none" is an answer too.
  const policy = useResource(key, async () => ({ content: await accountData(home, props.type) }));
  const [problem, setProblem] = useState<Problem | null>(null);
  const [saved, setSaved] = useState(0);
  // What was chosen is shown at once, and taken back if it could not be kept.
  const [chosen, setChosen] = useState<Json | null>(null);
  return (
    <Loaded resource={policy} rows={2}>
      {(found) => (
        <>
          {problem !== null && <Failure problem={problem} />}
          {props.children(chosen ?? found.content, async (next) => {
            setSaved(0);
            setProblem(null);
            setChosen(next);
            try {
              if (props.keep === undefined) await setAccountData(home, props.type, next);
              else await props.keep(next, chosen ?? found.content);
              setSaved((times) => times + 1);
            } catch (thrown) {
              setProblem(asProblem(thrown));
            }
            await refresh(key);
            setChosen((now) => (now === next ? null : now));
          })}
          <p class="saved" role="status">
            {saved > 0 ? t("saved") : ""}
          </p>
        </>
      )}
    </Loaded>
  );
}

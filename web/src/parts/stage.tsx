// The rules of a room's call and the people in it: for everybody their role and their hand, for hosts what they decide.

import { answer, matrix } from "../api.ts";
import { useHome } from "../home.ts";
import { Problem } from "../problem.ts";
import { type Resource, useResource } from "../resources.ts";
import type { GuestsShown, StageShown } from "../schema.ts";
import { c } from "../text/calling.ts";
import { Avatar, Button, Choice, Failure, Handle, Row, Section, Switch, time } from "./basics.tsx";
import { type Deed, useDeed } from "./compose.tsx";

const SOON_MS = 3_000;

export type Role = StageShown["your_role"];

export function useStage(roomId: string): Resource<StageShown> {
  const { api } = useHome();
  const params = { path: { room_id: roomId } };
  return useResource(`call_room ${roomId}`, () => answer(api.GET("/call_rooms/{room_id}", { params })), SOON_MS);
}

function roleOf(stage: StageShown, userId: string): Role {
  return stage.hosts.includes(userId) ? "host" : stage.speakers.includes(userId) ? "speaker" : "listener";
}

/** One's own role and hand, on a stage. */
export function OwnRole({ stage }: { stage: StageShown }) {
  const { api, session } = useHome();
  const deed = useDeed("call_room");
  if (!stage.stage) return null;
  const raised = stage.hands.includes(session.userId);
  const params = { path: { room_id: stage.room_id } };
  return (
    <>
      <p role="status">
        {c(stage.your_role === "host" ? "hosting" : stage.your_role === "speaker" ? "speaking" : "listening")}
      </p>
      {stage.your_role === "listener" && (
        <Button
          icon="hand"
          aria-pressed={raised}
          busy={deed.busy !== null}
          onClick={() =>
            deed.run("hand", () => answer(api.PUT("/call_rooms/{room_id}/hand", { params, body: { raised: !raised } })))
          }
        >
          {c(raised ? "lower" : "raise")}
        </Button>
      )}
      {deed.problem !== null && <Failure problem={deed.problem} />}
    </>
  );
}

/** Who is in the call over the call server, in their roles. ``here`` are those of a call without one. */
export function People({ stage, here }: { stage: StageShown; here: readonly string[] }) {
  const { session } = useHome();
  const deed = useDeed("call_room");
  const host = stage.your_role === "host";
  const order = (userId: string) => {
    const hand = stage.hands.indexOf(userId);
    return hand >= 0 ? hand : 1_000 + ["host", "speaker", "listener"].indexOf(roleOf(stage, userId));
  };
  const people = [...new Set([...stage.present, ...here, ...stage.hands])]
    .filter((each) => each !== session.userId)
    .sort((one, other) => order(one) - order(other) || (one < other ? -1 : 1));
  if (!stage.stage && !host) return null;
  return (
    <Section title={c("people")}>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      {people.length === 0 ? (
        <p class="hint">{c("people.none")}</p>
      ) : (
        <ul class="card list">
          {people.map((userId) => (
            <li key={userId}>
              <Row
                start={<Avatar name={userId} />}
                title={<Handle handle={userId} />}
                below={[
                  stage.stage || stage.hosts.includes(userId) ? c(`role.${roleOf(stage, userId)}`) : null,
                  stage.hands.includes(userId) ? c("asks") : null,
                ]
                  .filter(Boolean)
                  .join(" · ")}
                {...(host ? { end: <Deeds stage={stage} userId={userId} deed={deed} /> } : {})}
              />
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

function Deeds({ stage, userId, deed }: { stage: StageShown; userId: string; deed: Deed }) {
  const { api } = useHome();
  const role = roleOf(stage, userId);
  const become = (next: Role) =>
    deed.run(userId, () =>
      answer(
        api.PUT("/call_rooms/{room_id}/roles/{user_id}", {
          params: { path: { room_id: stage.room_id, user_id: userId } },
          body: { role: next },
        }),
      ),
    );
  const busy = deed.busy === userId;
  return (
    <span class="pair">
      {stage.stage && role === "listener" && (
        <Button busy={busy} aria-label={c("promote", { name: userId })} onClick={() => become("speaker")}>
          {c("do.promote")}
        </Button>
      )}
      {role !== "host" && (
        <Button kind="quiet" busy={busy} aria-label={c("make_host", { name: userId })} onClick={() => become("host")}>
          {c("do.make_host")}
        </Button>
      )}
      {role !== "listener" && (
        <Button kind="quiet" busy={busy} aria-label={c("demote", { name: userId })} onClick={() => become("listener")}>
          {c("do.demote")}
        </Button>
      )}
    </span>
  );
}

/** What hosts rule; the homeserver enforces it at its call server. */
export function Rules({ stage }: { stage: StageShown }) {
  const { api } = useHome();
  const deed = useDeed("call_room");
  if (stage.your_role !== "host") return null;
  const params = { path: { room_id: stage.room_id } };
  return (
    <Section title={c("rules")}>
      <div class="card prose">
        <Switch
          label={c("rules.live")}
          below={c("rules.live.hint")}
          on={stage.stage}
          busy={deed.busy !== null}
          onChange={(on) =>
            deed.run("live", () => answer(api.PUT("/call_rooms/{room_id}", { params, body: { stage: on } })))
          }
        />
        <p id="rules-screens">{c("rules.screens")}</p>
        <Choice
          label={c("rules.screens")}
          value={stage.screen_share}
          onChange={(screen_share) =>
            deed.run("screens", () => answer(api.PUT("/call_rooms/{room_id}", { params, body: { screen_share } })))
          }
          options={[
            ["speakers", c("rules.screens.speakers")],
            ["hosts", c("rules.screens.hosts")],
            ["nobody", c("rules.screens.nobody")],
          ]}
        />
        {deed.problem !== null && <Failure problem={deed.problem} />}
      </div>
    </Section>
  );
}

/** Who waits at the link of a room, for hosts. Nothing is shown where there is no link, or no waiting room. */
export function WaitingRoom({ roomId }: { roomId: string }) {
  const { tokens, about } = useHome();
  const link = useResource(`call_link_of ${roomId}`, async () => {
    try {
      const where = `v3/rooms/${encodeURIComponent(roomId)}/state/org.superapp.call.link/`;
      const { link_id, waiting_room } = await matrix(tokens, "GET", where);
      return typeof link_id === "string" && waiting_room === true ? `${link_id}@${about.server_name}` : null;
    } catch (thrown) {
      if (thrown instanceof Problem && thrown.status === 404) return null;
      throw thrown;
    }
  });
  return typeof link.value === "string" ? <Waiting link={link.value} /> : null;
}

function Waiting({ link }: { link: string }) {
  const { api } = useHome();
  const params = { path: { link } };
  const key = `call_waiting ${link}`;
  const waiting = useResource(key, () => answer(api.GET("/call_links/{link}/waiting", { params })), SOON_MS);
  const deed = useDeed("call_waiting");
  // A link of another homeserver is ruled there.
  if (waiting.value === undefined) return null;
  const decide = (userId: string, act: "admit" | "turn_away"): Promise<GuestsShown | null> => {
    const body = { user_id: userId };
    return deed.run(userId, () =>
      answer(
        act === "admit"
          ? api.POST("/call_links/{link}/admit", { params, body })
          : api.POST("/call_links/{link}/turn_away", { params, body }),
      ),
    );
  };
  return (
    <Section title={c("waiting")}>
      {deed.problem !== null && <Failure problem={deed.problem} />}
      <div role="status">
        {waiting.value.waiting.length === 0 ? (
          <p class="hint">{c("waiting.none")}</p>
        ) : (
          <ul class="card list">
            {waiting.value.waiting.map(({ user_id, asked_ts }) => (
              <li key={user_id}>
                <Row
                  start={<Avatar name={user_id} icon="clock" />}
                  title={<Handle handle={user_id} />}
                  below={c("waiting.since", { time: time(asked_ts) })}
                  end={
                    <span class="pair">
                      <Button
                        kind="main"
                        busy={deed.busy === user_id}
                        aria-label={c("admit", { name: user_id })}
                        onClick={() => decide(user_id, "admit")}
                      >
                        {c("do.admit")}
                      </Button>
                      <Button
                        kind="quiet"
                        busy={deed.busy === user_id}
                        aria-label={c("turn_away", { name: user_id })}
                        onClick={() => decide(user_id, "turn_away")}
                      >
                        {c("do.turn_away")}
                      </Button>
                    </span>
                  }
                />
              </li>
            ))}
          </ul>
        )}
      </div>
    </Section>
  );
}

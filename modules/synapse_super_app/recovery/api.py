"""What people do with recovery over HTTP: their homeserver passes it on to their realms, and minds their tries.

It sees blinded elements and sealed shares, and never a PIN or a key. Which account it is about is the signed-in one's,
never the client's to say.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pydantic import BaseModel

from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId, server_of
from super_app.recovery import store
from super_app.recovery.model import AttemptId, Version
from super_app.wire import WireModel
from synapse_super_app.directory.budget import Budget
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.recovery.bodies import (
    AboutJson,
    BeginAllBody,
    BegunAllJson,
    BegunJson,
    DoneJson,
    EvaluateBody,
    EvaluationJson,
    EvaluationsJson,
    GuessBody,
    NothingBody,
    RightBody,
    RightJson,
    ShareBody,
    SharesJson,
    UnlockBody,
    UserBeginBody,
    UserGuessBody,
    VersionBody,
    What,
)
from synapse_super_app.recovery.peers import until
from synapse_super_app.recovery.realm import Realm
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

Alert = Callable[[UserId, str, str], Awaitable[None]]
"""Tell a person what happened, with an id of it and the device, in all their sessions."""

_ATTEMPT_MS: Final = 120_000
"""A try that was not shown to be right for so long was wrong."""
_SWEEP_MS: Final = 15_000.0
_HOUR_MS: Final = 3_600_000
_FORGET_MS: Final = 30 * 86_400_000
_BURST: Final = 400
"""Setting up a PIN at nine realms asks them fifty times, and a recovery twenty-five times."""
_EVERY_MS: Final = 2_000
_VOUCHED_MS: Final = _HOUR_MS
_AT_REALMS: Final = (
    Reason.UNKNOWN_REALM,
    Reason.PEER_UNREACHABLE,
    Reason.NOT_ALLOWED,
    Reason.WRONG_ORIGIN,
    Reason.RECOVERY_UNKNOWN,
    Reason.RECOVERY_GONE,
)


class RealmJson(BaseModel):
    """``public_key`` is what shares are sealed for; without it the realm does not answer now."""

    server: str
    operator: str
    own: bool
    leaving: bool
    public_key: str | None = None


class RealmsJson(BaseModel):
    """``shares`` and ``threshold`` are what the operator suggests."""

    shares: int
    threshold: int
    realms: list[RealmJson]


class CensusJson(BaseModel):
    """Shares of the people of one homeserver."""

    server: str
    held: int
    spent: int


class RealmAdminJson(BaseModel):
    """``unchecked`` shares wait for other realms to say that this database is no old one."""

    operator: str
    public_key: str
    leaving: bool
    shares: list[CensusJson]
    unchecked: int
    vouched_until: int
    realms: list[RealmJson]


class RecoveryApi:
    def __init__(self, runtime: Runtime, realm: Realm) -> None:
        self._runtime = runtime
        self._config = runtime.config.recovery
        self._realm = realm
        self._alert: Alert | None = None
        self._budget = Budget(burst=_BURST, every_ms=_EVERY_MS)
        self._beginning: dict[tuple[UserId, AttemptId], dict[str, str]] = {}
        """Nonces by realm, of tries that not all realms have begun yet."""

    def when_something_happened(self, alert: Alert) -> None:
        self._alert = alert

    def start(self) -> None:
        self._runtime.api.looping_background_call(self._sweep, _SWEEP_MS, desc="superapp_recovery_sweep")
        self._runtime.api.looping_background_call(self._forget_the_gone, _HOUR_MS, desc="superapp_recovery_gone")

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="recovery/realms",
                handler=self._get_realms,
                response=RealmsJson,
                summary="The homeservers that can guard the shares of your recovery key, and who runs them",
            ),
            self._passed_on("GET", "state", What.STATE, None, SharesJson, "What a realm holds for you"),
            self._passed_on(
                "PUT",
                "share",
                What.SHARE,
                ShareBody,
                DoneJson,
                "Give a realm its share, sealed for it; the one in use stays until the next one is",
                (Reason.RECOVERY_STALE,),
            ),
            self._passed_on(
                "POST",
                "guess",
                What.GUESS,
                GuessBody,
                EvaluationJson,
                "Have a realm evaluate a blinded PIN, which counts as a guess until it is unlocked",
                (Reason.CONFLICT, Reason.RECOVERY_UNWITNESSED),
            ),
            self._passed_on(
                "POST",
                "unlock",
                What.UNLOCK,
                UnlockBody,
                DoneJson,
                "Show a realm that the PIN was right, so that its count begins anew",
                (Reason.RECOVERY_TAG_WRONG,),
            ),
            self._passed_on(
                "POST", "use", What.USE, VersionBody, DoneJson, "A version is in use now; older ones are destroyed"
            ),
            self._passed_on(
                "POST", "give-up", What.GIVE_UP, VersionBody, DoneJson, "Destroy a version and those before it"
            ),
            Route(
                method="POST",
                path="recovery/attempts/{attempt_id}/begin",
                handler=self._post_begin,
                response=BegunAllJson,
                summary="Have realms count a guess while the PIN is being stretched, so that they need not do it later",
                body=BeginAllBody,
                reasons=(Reason.CONFLICT, Reason.UNKNOWN_REALM, Reason.INVALID_VALUE),
            ),
            Route(
                method="POST",
                path="recovery/attempts/{attempt_id}/evaluate",
                handler=self._post_evaluate,
                response=EvaluationsJson,
                summary="Have as many realms as it takes evaluate a blinded PIN, in one round trip",
                body=EvaluateBody,
                reasons=(Reason.CONFLICT, Reason.UNKNOWN_REALM, Reason.INVALID_VALUE),
            ),
            Route(
                method="POST",
                path="recovery/attempts/{attempt_id}/right",
                handler=self._post_right,
                response=RightJson,
                summary="Show all realms that the PIN was right, with one order that outlives the page it came from",
                body=RightBody,
                reasons=(Reason.UNKNOWN_REALM, Reason.INVALID_VALUE),
            ),
            Route(
                method="POST",
                path="recovery/attempts/{attempt_id}/wrong",
                handler=self._post_wrong,
                response=DoneJson,
                summary="Say that a try was wrong, so that all your sessions hear of it at once",
                body=NothingBody,
            ),
            Route(
                method="GET",
                path="admin/recovery",
                handler=self._get_admin,
                response=RealmAdminJson,
                auth=Auth.ADMIN,
                summary="This homeserver as a realm: for whom it holds how many shares, and how its own realms are",
            ),
            Route(
                method="POST",
                path="admin/recovery/vouch",
                handler=self._post_vouch,
                response=RealmAdminJson,
                auth=Auth.ADMIN,
                body=NothingBody,
                summary="Say for an hour that this database is no restored one, where other realms cannot be asked",
            ),
        )

    def _passed_on(
        self,
        method: str,
        path: str,
        what: What,
        body: type[WireModel] | None,
        response: type[BaseModel],
        summary: str,
        reasons: tuple[Reason, ...] = (),
    ) -> Route:
        return Route(
            method=method,
            path=f"recovery/realms/{{realm}}/{path}",
            handler=partial(self._pass_on, what, response),
            response=response,
            body=body,
            summary=summary,
            reasons=(*_AT_REALMS, *reasons),
        )

    async def _pass_on(self, what: What, response: type[BaseModel], call: Call) -> BaseModel | Refused:
        realm, user_id = ServerName(call.path["realm"]), call.user_id
        refused = self._judge(user_id, [realm])
        if refused is not None:
            return refused
        body: WireModel | None = call.body
        content: dict[str, Any] = {} if body is None else body.model_dump(mode="json", exclude_none=True)
        if isinstance(body, GuessBody):
            refused = await self._begin_attempt(user_id, AttemptId(body.attempt_id), call.device_id)
            if refused is not None:
                return refused
        answered = await self._realm.peers.ask(realm, what, {**content, "user_id": user_id})
        if isinstance(answered, Refused):
            return answered
        try:
            found = response.model_validate(dict(answered))
        except ValueError:
            return Refused(
                reason=Reason.PEER_UNREACHABLE, message=f"{realm} answered something else than a realm does."
            )
        if isinstance(body, UnlockBody):
            await self._unlocked(realm, user_id, Version(body.version), AttemptId(body.attempt_id))
        if what is What.USE and realm == self._runtime.server_name and answered.get("changed") is True:
            await self._tell(user_id, f"set:{content['version']}", call.device_id)
        return found

    def _judge(self, user_id: UserId, realms: Sequence[ServerName]) -> Refused | None:
        """Whether somebody may ask these now."""
        known = {self._runtime.server_name, *(each.server for each in self._config.realms)}
        for realm in realms:
            if realm not in known:
                return Refused(
                    reason=Reason.UNKNOWN_REALM, message=f"{realm[:255]!r} is not among the realms of this homeserver."
                )
            refused = self._budget.take(user_id, self._runtime.now_ms())
            if refused is not None:
                return refused
        return None

    # Tries.

    async def _begin_attempt(self, user_id: UserId, attempt_id: AttemptId, device_id: str) -> Refused | None:
        now_ms = self._runtime.now_ms()
        is_open = await self._runtime.database.run(
            "recovery_attempt", lambda cur: store.begin_attempt(cur, user_id, attempt_id, device_id, now_ms)
        )
        if is_open:
            return None
        # Of one that has ended nobody would be told again.
        return Refused(reason=Reason.CONFLICT, message="That attempt_id was used for another guess; make a new one.")

    async def _post_begin(self, call: Call) -> BegunAllJson | Refused:
        """Answers once all realms have, or cannot. Whoever did not count it counts it when the guess comes."""
        body: BeginAllBody = call.body
        content = {"version": body.version, "attempt_id": call.path["attempt_id"], "user_id": call.user_id}
        realms = await self._let_through(call, UserBeginBody.parse(content), body.realms)
        if isinstance(realms, Refused):
            return realms
        attempt = (call.user_id, AttemptId(call.path["attempt_id"]))
        nonces = self._beginning.setdefault(attempt, {})
        try:
            jobs = [partial(self._begin_at, realm, content, nonces) for realm in realms]
            begun = await until(jobs, lambda answers: len(answers) == len(jobs))
        finally:
            self._beginning.pop(attempt, None)
        return BegunAllJson(changed=any(begun), nonces=nonces)

    async def _post_evaluate(self, call: Call) -> EvaluationsJson | Refused:
        body: EvaluateBody = call.body
        content = {
            "version": body.version,
            "attempt_id": call.path["attempt_id"],
            "blinded": body.blinded,
            "user_id": call.user_id,
        }
        read = UserGuessBody.parse(content)
        if isinstance(read, Refused):
            return read
        realms = await self._let_through(call, read, body.realms)
        if isinstance(realms, Refused):
            return realms
        found = await self._realm.peers.first(realms, body.enough, partial(self._evaluate_at, content))
        return EvaluationsJson(
            evaluations={str(realm): each for realm, each in found.items()},
            nonces=dict(self._beginning.get((call.user_id, AttemptId(read.attempt_id)), {})),
        )

    async def _let_through(
        self, call: Call, read: UserBeginBody | UserGuessBody | Refused, named: Sequence[str]
    ) -> list[ServerName] | Refused:
        """The realms that are to be asked for a try, which is written down before."""
        if isinstance(read, Refused):
            return read
        realms = [ServerName(each) for each in dict.fromkeys(named)]
        refused = self._judge(call.user_id, realms)
        if refused is None:
            refused = await self._begin_attempt(call.user_id, AttemptId(read.attempt_id), call.device_id)
        return realms if refused is None else refused

    async def _evaluate_at(self, content: Mapping[str, Any], realm: ServerName) -> EvaluationJson | None:
        try:
            answered = await self._realm.peers.ask(realm, What.GUESS, content)
            return None if isinstance(answered, Refused) else EvaluationJson.model_validate(dict(answered))
        except ValueError:
            return None
        except Exception:
            logger.exception("%s could not be asked to evaluate", realm)
            return None

    async def _begin_at(self, realm: ServerName, content: Mapping[str, Any], nonces: dict[str, str]) -> bool:
        """Whether it counts the guess; its nonce is put among ``nonces``."""
        try:
            answered = await self._realm.peers.ask(realm, What.BEGIN, content)
            if isinstance(answered, Refused):
                return False
            begun = BegunJson.model_validate(dict(answered))
        except ValueError:
            return False
        except Exception:
            logger.exception("%s could not be told that a guess begins", realm)
            return False
        if begun.nonce is not None:
            nonces[str(realm)] = begun.nonce
        return True

    async def _post_right(self, call: Call) -> RightJson | Refused:
        """All that is left to do once the key is there. It goes on though nobody waits for the answer any more."""
        body: RightBody = call.body
        content = {"version": body.version, "attempt_id": call.path["attempt_id"], "user_id": call.user_id}
        guess = {**content, "blinded": body.blinded}
        read = UserGuessBody.parse(guess)
        if isinstance(read, Refused):
            return read
        realms = [ServerName(each) for each in dict.fromkeys((*body.tags, *body.others))]
        refused = self._judge(call.user_id, realms)
        if refused is not None:
            return refused
        # Under one that has ended nothing is evaluated, since nobody would be told of it. Tags may come again.
        is_open = await self._begin_attempt(call.user_id, AttemptId(read.attempt_id), call.device_id) is None
        others = {ServerName(each) for each in body.others}
        unlocked: list[str] = []
        evaluations: dict[str, EvaluationJson] = {}

        async def one(realm: ServerName) -> None:
            if realm in others and is_open:
                found = await self._evaluate_at(guess, realm)
                if found is not None:
                    evaluations[str(realm)] = found
            # Also where that failed: the guess was counted when it began, and the PIN was right.
            tag = body.tags.get(str(realm))
            if tag is not None and await self._unlock_at(realm, {**content, "tag": tag}):
                unlocked.append(str(realm))

        jobs = [partial(one, realm) for realm in realms]
        await until(jobs, lambda answers: len(answers) == len(jobs))
        return RightJson(unlocked=sorted(unlocked), evaluations=evaluations)

    async def _unlock_at(self, realm: ServerName, content: Mapping[str, Any]) -> bool:
        try:
            if isinstance(await self._realm.peers.ask(realm, What.UNLOCK, content), Refused):
                return False
            version, attempt_id = Version(content["version"]), AttemptId(content["attempt_id"])
            await self._unlocked(realm, UserId(content["user_id"]), version, attempt_id)
            return True
        except Exception:
            logger.exception("%s could not be told that a PIN was right", realm)
            return False

    async def _end_attempt(self, user_id: UserId, attempt_id: AttemptId, *, right: bool) -> None:
        device_id = await self._runtime.database.run(
            "recovery_attempt_end",
            lambda cur: store.end_attempt(cur, user_id, attempt_id, "right" if right else "wrong"),
        )
        if device_id is not None and not right:
            await self._tell(user_id, f"wrong:{attempt_id}", device_id)

    async def _unlocked(self, realm: ServerName, user_id: UserId, version: Version, attempt_id: AttemptId) -> None:
        """A realm says that the PIN was right. Where our own one holds a share its word counts alone.

        Another one that lies could else keep from the person that somebody tried their PIN.
        """
        if realm != self._runtime.server_name:
            ours = await self._runtime.database.run("recovery_share", lambda cur: store.share(cur, user_id, version))
            if ours is not None and ours.state.held:
                return
        await self._end_attempt(user_id, attempt_id, right=True)

    async def _post_wrong(self, call: Call) -> DoneJson:
        await self._end_attempt(call.user_id, AttemptId(call.path["attempt_id"]), right=False)
        return DoneJson()

    async def _sweep(self) -> None:
        now_ms = self._runtime.now_ms()
        open_ones = await self._runtime.database.run(
            "recovery_open", lambda cur: store.left_open(cur, now_ms - _ATTEMPT_MS)
        )
        for user_id, attempt_id in open_ones:
            await self._end_attempt(user_id, attempt_id, right=False)
        await self._part()
        if open_ones:
            await self._runtime.database.run(
                "recovery_forget", lambda cur: store.forget_attempts(cur, now_ms - _FORGET_MS)
            )

    # Shares that are given up.

    async def on_user_deactivation_status_changed(
        self,
        user_id: str,
        deactivated: bool,  # noqa: FBT001  # Synapse calls it so
        by_admin: bool,  # noqa: FBT001
    ) -> None:
        """A closed account leaves no shares. What a crash makes us miss here, the hourly round finds."""
        if deactivated and self._runtime.api.is_mine(user_id):
            await self._realm.close(UserId(user_id))
            self._runtime.api.run_as_background_process("superapp_recovery_part", self._part)

    async def _part(self) -> None:
        """Tell realms what they have not heard yet. What no realm hears for an hour is told again then."""
        run, now_ms = self._runtime.database.run, self._runtime.now_ms()
        silent: set[ServerName] = set()
        for user_id, realm, version in await run(
            "recovery_partings", lambda cur: store.partings(cur, now_ms - _HOUR_MS)
        ):
            if realm in silent:
                continue
            body = {"user_id": user_id, "version": version}
            answered = await self._realm.peers.ask(realm, What.GIVE_UP, body)
            if isinstance(answered, Refused) and answered.reason in (Reason.PEER_UNREACHABLE, Reason.STARTING):
                silent.add(realm)
                await run("recovery_silent", partial(store.asked_to_part, realm=realm, now_ms=now_ms))
            else:
                await run("recovery_parted", partial(store.parted, user_id=user_id, realm=realm, version=version))

    async def _forget_the_gone(self) -> None:
        ours = self._runtime.server_name
        held = await self._runtime.database.run("recovery_held", store.held)
        for user_id in dict.fromkeys(each.user_id for each in held if server_of(each.user_id) == ours):
            is_gone = partial(self._runtime.private.is_deactivated, user_id=user_id)
            if await self._runtime.database.run("recovery_is_gone", is_gone):
                await self._realm.close(user_id)

    async def _tell(self, user_id: UserId, happened: str, device_id: str) -> None:
        if self._alert is None:
            logger.warning("%s was to be told of %s, and there is no assistant to do it", user_id, happened)
            return
        await self._alert(user_id, happened, device_id)

    # Realms.

    async def _get_realms(self, _call: Call) -> RealmsJson:
        realms = await self._realms()
        most = max(3, len([each for each in realms if not each.leaving]))
        shares = min(self._config.shares, most)
        return RealmsJson(shares=shares, threshold=min(self._config.threshold, shares // 2 + 1), realms=realms)

    async def _realms(self) -> list[RealmJson]:
        own = RealmJson(
            server=self._runtime.server_name,
            operator=self._realm.operator,
            own=True,
            leaving=self._config.leaving,
            public_key=self._realm.key.public,
        )
        jobs = [partial(self._about, ServerName(each.server), each.operator) for each in self._config.realms]
        found = {each.server: each for each in await until(jobs, lambda answers: len(answers) == len(jobs))}
        realms = [own, *(found[each.server] for each in self._config.realms)]
        claims = Counter(each.operator.casefold().strip() for each in realms)
        # One operator with two shares could do with one other what takes three: none of them is offered.
        return [
            each
            if each.own or claims[each.operator.casefold().strip()] == 1
            else each.model_copy(update={"leaving": True})
            for each in realms
        ]

    async def _about(self, server: ServerName, operator: str) -> RealmJson:
        configured = next(each for each in self._config.realms if each.server == server)
        try:
            answered = await self._realm.peers.ask(server, What.ABOUT, {"v": 1})
            about = answered if isinstance(answered, Refused) else AboutJson.parse(dict(answered))
        except Exception:
            logger.exception("%s could not be asked what realm it is", server)
            about = Refused(reason=Reason.PEER_UNREACHABLE, message="")
        if isinstance(about, Refused):
            return RealmJson(server=server, operator=operator, own=False, leaving=configured.leaving)
        return RealmJson(
            server=server,
            # What it says of itself counts, so that two names in the config for one operator come out.
            operator=about.operator if about.operator != server else operator,
            own=False,
            leaving=configured.leaving or about.leaving,
            public_key=about.public_key,
        )

    # Operators.

    async def _get_admin(self, _call: Call) -> RealmAdminJson:
        census = await self._runtime.database.run("recovery_census", store.census)
        counted: dict[str, CensusJson] = {}
        for user_id, state in census:
            server = user_id.partition(":")[2]
            before = counted.setdefault(server, CensusJson(server=server, held=0, spent=0))
            before.held += int(state.held)
            before.spent += int(state.value == "spent")
        return RealmAdminJson(
            operator=self._realm.operator,
            public_key=self._realm.key.public,
            leaving=self._config.leaving,
            shares=sorted(counted.values(), key=lambda each: each.server),
            unchecked=len(await self._realm.unchecked()),
            vouched_until=await self._runtime.database.run("recovery_vouched", store.vouched_until_ms),
            realms=await self._realms(),
        )

    async def _post_vouch(self, call: Call) -> RealmAdminJson:
        until_ms = self._runtime.now_ms() + _VOUCHED_MS
        logger.warning("%s vouches that this database is no restored one", call.user_id)
        await self._runtime.database.run("recovery_vouch", lambda cur: store.vouch(cur, until_ms))
        return await self._get_admin(call)

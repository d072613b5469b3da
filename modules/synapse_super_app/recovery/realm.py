"""A realm: what it answers its own and other homeservers about the shares that it holds.

What comes over federation is authenticated by X-Matrix; an account is its own homeserver's alone. Fails closed: a guess
that too few of the other realms know of is not answered. Nothing here logs a body.
"""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

from prometheus_client import Counter
from pydantic import BaseModel

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId, parse_user_id, server_of
from super_app.names import RECOVERY_PATH
from super_app.recovery import group, rules, sealing, service, store, voprf
from super_app.recovery.model import AttemptId, Busy, Deal, Guess, Mark, Plan, Share, State, Version, Wiped, seal_info
from super_app.signing import from_b64, to_b64
from super_app.wire import WireModel
from synapse_super_app.directory.budget import Budget
from synapse_super_app.http.refusals import error_of
from synapse_super_app.recovery.bodies import (
    AboutBody,
    AboutJson,
    BegunJson,
    DoneJson,
    EvaluationJson,
    KnownBody,
    KnownMark,
    MarkBody,
    SharesJson,
    ShareStateJson,
    UserBeginBody,
    UserBody,
    UserGuessBody,
    UserShareBody,
    UserUnlockBody,
    UserVersionBody,
    What,
)
from synapse_super_app.recovery.keys import RealmKey, key_path, realm_key
from synapse_super_app.recovery.peers import Answer, Peers, until
from synapse_super_app.recovery.turns import Turns
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_Handler = Callable[[ServerName, Any], Awaitable[BaseModel | Refused]]
_Told = Literal["known", "behind", "silent"]

_SERVLET_GROUP: Final = "superapp_recovery"
_TRIES: Final = 4
_BUSY_PAUSE_S: Final = 0.03
_BUSY_PAUSES: Final = 200
_LOOK_AGAIN_MS: Final = 60_000.0
_HOUR_MS: Final = 3_600_000
_PERSON_BURST: Final = 60
_PERSON_EVERY_MS: Final = 15_000
_BETWEEN_REALMS: Final = frozenset({What.WITNESS, What.RECALL})
_guesses_total = Counter(
    "superapp_recovery_guesses_total", "Guesses that this realm was asked for, by outcome.", ["outcome"]
)


class Realm:
    """Registers its federation path; ``start`` opens it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._config = runtime.config.recovery
        self.peers = Peers(runtime, self.answer)
        self._own = runtime.server_name
        self._key: RealmKey | None = None
        self._checked: set[tuple[UserId, Version]] = set()
        """Shares of which the other realms have said, since this process began, that they know of nothing newer.

        In memory only: whoever puts an old database in place has to stop the process.
        """
        self._silent: set[ServerName] = set()
        """Realms that did not take what they were last told."""
        self._started_ms = runtime.now_ms()
        self._turns = Turns()
        per_server = self._config.guesses_per_server
        self._of_server = Budget(burst=per_server, every_ms=max(1, _HOUR_MS // per_server))
        self._of_person = Budget(burst=_PERSON_BURST, every_ms=_PERSON_EVERY_MS)
        self._handlers: Mapping[What, tuple[type[WireModel], _Handler]] = {
            What.ABOUT: (AboutBody, self._about),
            What.SHARE: (UserShareBody, self._put_share),
            What.BEGIN: (UserBeginBody, self._begin),
            What.GUESS: (UserGuessBody, self._guess),
            What.UNLOCK: (UserUnlockBody, self._unlock),
            What.USE: (UserVersionBody, self._use),
            What.GIVE_UP: (UserVersionBody, self._give_up),
            What.STATE: (UserBody, self._state),
            What.WITNESS: (MarkBody, self._witness),
            What.RECALL: (UserVersionBody, self._recall),
        }
        runtime.private.answer_put(_SERVLET_GROUP, RECOVERY_PATH, self._put)

    @property
    def operator(self) -> str:
        return self._config.operator or self._own

    @property
    def key(self) -> RealmKey:
        if self._key is None:
            raise error_of(_starting())
        return self._key

    async def start(self) -> None:
        api = self._runtime.api
        path = key_path(self._runtime.private.key_folder(), self._own, self._config.key_path)
        self._key = await api.defer_to_thread(realm_key, path)
        api.run_as_background_process("superapp_recovery_look", self._look)
        api.looping_background_call(
            self._look, _LOOK_AGAIN_MS, desc="superapp_recovery_look", run_on_all_instances=True
        )

    async def unchecked(self) -> Sequence[Share]:
        """Shares that wait for the other realms to say whether they are the newest."""
        held = await self._runtime.database.run("recovery_held", store.held)
        return [each for each in held if (each.user_id, each.version) not in self._checked]

    async def _look(self) -> None:
        now_ms = self._runtime.now_ms()
        destroyed = await self._runtime.database.run("recovery_spent", lambda cur: service.destroy_spent(cur, now_ms))
        if destroyed:
            logger.warning("%d shares were destroyed by wrong guesses", destroyed)
        for share in await self.unchecked():
            refused = await self._check(share)
            if refused is not None:
                logger.info("a share of %s waits for its other realms: %s", share.user_id, refused.message)

    # The door.

    async def _put(self, origin: ServerName, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answered = await self.answer(origin, what, body)
        if isinstance(answered, Refused):
            raise error_of(answered)
        return dict(answered)

    async def answer(self, origin: ServerName, what: str, body: Mapping[str, Any]) -> Answer:
        """What ``origin`` asks, this homeserver itself or another one."""
        if self._key is None:
            return _starting()
        asked = next((each for each in What if each == what), None)
        if asked is None:
            return Refused(reason=Reason.INVALID_VALUE, message="There is no such thing to ask of a realm.")
        model, handler = self._handlers[asked]
        read = model.parse(dict(body))
        if isinstance(read, Refused):
            return read
        user_id: str | None = getattr(read, "user_id", None)
        if user_id is not None:
            if parse_user_id(user_id) is None:
                return Refused(reason=Reason.INVALID_VALUE, message="user_id is no user id.")
            if asked not in _BETWEEN_REALMS and server_of(UserId(user_id)) != origin:
                return Refused(reason=Reason.WRONG_ORIGIN, message=f"{origin} does not speak for that account.")
        found = await handler(origin, read)
        if asked in (What.BEGIN, What.GUESS):
            _guesses_total.labels(found.reason.value if isinstance(found, Refused) else "answered").inc()
        return found if isinstance(found, Refused) else found.model_dump(mode="json")

    # For people.

    async def _about(self, _origin: ServerName, _body: AboutBody) -> AboutJson:
        return AboutJson(operator=self.operator, public_key=self.key.public, leaving=self._config.leaving)

    async def _put_share(self, origin: ServerName, body: UserShareBody) -> DoneJson | Refused:
        if origin != self._own and origin not in self._config.served():
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=f"{self._own} guards no shares of people of {origin}; choose another.",
            )
        if self._config.leaving:
            return Refused(reason=Reason.NOT_ALLOWED, message=f"{self._own} takes no new shares; choose another.")
        user_id, version = UserId(body.user_id), Version(body.version)
        deal = self._open(user_id, version, body.sealed)
        refused = deal if isinstance(deal, Refused) else None
        if isinstance(deal, Deal):
            refused = rules.judge_deal(deal, realm=self._own, user_id=user_id, version=version)
        if refused is not None or isinstance(deal, Refused):
            return refused or rules.gone()
        in_use = None if body.in_use is None else Version(body.in_use)
        refused = await self._runtime.database.run(
            "recovery_put",
            partial(service.put_share, deal=deal, sealed=body.sealed, in_use=in_use, now_ms=self._runtime.now_ms()),
        )
        # The others are asked before a guess even if it is new here: an old database may have forgotten it.
        return refused or DoneJson()

    async def _begin(self, origin: ServerName, body: UserBeginBody) -> BegunJson | Refused:
        """Count a guess while its PIN is still being stretched; what it is to evaluate comes with ``guess``."""
        user_id, version, attempt_id = UserId(body.user_id), Version(body.version), AttemptId(body.attempt_id)
        counted = await self._let_through(origin, user_id, version, attempt_id, None)
        return counted if isinstance(counted, Refused) else BegunJson(nonce=counted[1].nonce)

    async def _guess(self, origin: ServerName, body: UserGuessBody) -> EvaluationJson | Refused:
        try:
            blinded = group.read_element(from_b64(body.blinded))
        except ValueError:
            return Refused(reason=Reason.INVALID_VALUE, message="blinded is no element of the group.")
        user_id, version, attempt_id = UserId(body.user_id), Version(body.version), AttemptId(body.attempt_id)
        counted = await self._let_through(origin, user_id, version, attempt_id, body.blinded)
        return counted if isinstance(counted, Refused) else self._evaluated(*counted, blinded)

    async def _let_through(
        self, origin: ServerName, user_id: UserId, version: Version, attempt_id: AttemptId, blinded: str | None
    ) -> tuple[Share, Guess] | Refused:
        """Count a guess, once the other realms know of it; one that was counted before is only looked up."""
        refused = self._of_person.take(user_id, self._runtime.now_ms())
        if refused is not None:
            return refused
        # Two that met would tell the others the same epoch, and the one that came second would count twice.
        tries = pauses = 0
        async with self._turns.of((user_id, version)):
            while tries < _TRIES and pauses < _BUSY_PAUSES:
                found = await self._tried(origin, user_id, version, attempt_id, blinded)
                if found is Busy.BUSY:
                    # In another process. What ends it is its own answer, of which nothing is heard here.
                    pauses += 1
                    await self._runtime.api.sleep(_BUSY_PAUSE_S)
                elif found is not None:
                    return found
                else:
                    tries += 1
        return _at_once()

    async def _tried(
        self, origin: ServerName, user_id: UserId, version: Version, attempt_id: AttemptId, blinded: str | None
    ) -> tuple[Share, Guess] | Refused | Busy | None:
        """None if something came in between, so that it has to be tried anew."""
        run, now_ms = self._runtime.database.run, self._runtime.now_ms()
        planned = partial(
            service.plan_guess,
            realm=self._own,
            user_id=user_id,
            version=version,
            attempt_id=attempt_id,
            blinded=blinded,
            now_ms=now_ms,
            started_ms=self._started_ms,
        )
        plan = await run("recovery_plan", planned)
        if isinstance(plan, Wiped):
            logger.warning("the share of %s was destroyed by wrong guesses", user_id)
            return rules.gone()
        if isinstance(plan, (Refused, Busy)):
            return plan
        if (user_id, version) not in self._checked:
            # What the others know may change what may be done.
            refused = await self._check(plan.share)
            return refused if refused is None else await self._released(plan, refused)
        if plan.again is not None:
            return plan.share, plan.again
        refused = self._of_server.take(origin, now_ms)
        if refused is not None:
            return await self._released(plan, refused)
        told = await self._tell(plan)
        if "behind" in told:
            return None
        if told.count("known") < rules.acknowledgements(plan.share.threshold):
            return await self._released(plan, _unwitnessed())
        nonce, now_ms = to_b64(secrets.token_bytes(group.SIZE)), self._runtime.now_ms()
        counted = await run("recovery_count", partial(_count, plan, blinded, nonce, now_ms))
        if counted is None:
            return None
        return counted, Guess(attempt_id=attempt_id, blinded=blinded, nonce=nonce)

    async def _released(self, plan: Plan, refused: Refused) -> Refused:
        """The refusal of a guess that keeps others waiting no more."""
        share, attempt_id = plan.share, plan.mark.attempt_id
        if plan.again is None and attempt_id is not None:
            await self._runtime.database.run(
                "recovery_release",
                partial(store.release, user_id=share.user_id, version=share.version, attempt_id=attempt_id),
            )
        return refused

    def _evaluated(self, share: Share, guess: Guess, blinded: group.Element) -> EvaluationJson | Refused:
        deal = self._open(share.user_id, share.version, share.sealed or "")
        if isinstance(deal, Refused):
            logger.error("a share of %s does not open with the key in use: restore that key's file", share.user_id)
            return deal
        nonce = group.scalar_from_wide(secrets.token_bytes(64))
        evaluation = voprf.evaluate(deal.share, blinded, nonce)
        return EvaluationJson(
            element=to_b64(evaluation.element),
            proof=to_b64(evaluation.proof.to_bytes()),
            nonce=guess.nonce,
            guesses_left=service.guesses_left(share),
        )

    async def _unlock(self, _origin: ServerName, body: UserUnlockBody) -> DoneJson | Refused:
        user_id, version = UserId(body.user_id), Version(body.version)
        share = await self._runtime.database.run("recovery_share", lambda cur: store.share(cur, user_id, version))
        refused = rules.judge_held(share)
        if share is None or refused is not None:
            return refused or rules.gone()
        deal = self._open(user_id, version, share.sealed or "")
        try:
            tag = from_b64(body.tag)
        except ValueError:
            return Refused(reason=Reason.INVALID_VALUE, message="tag is not base64url.")
        if isinstance(deal, Refused):
            return deal
        unlocked = partial(
            service.unlock,
            realm=self._own,
            user_id=user_id,
            version=version,
            attempt_id=AttemptId(body.attempt_id),
            tag=tag,
            unlock_key=deal.unlock_key,
            now_ms=self._runtime.now_ms(),
        )
        async with self._turns.of((user_id, version)):
            for _ in range(_BUSY_PAUSES):
                marks = await self._runtime.database.run("recovery_unlock", unlocked)
                if isinstance(marks, Refused):
                    return marks
                if marks is not None:
                    return self._told_later(share, marks)
                await self._runtime.api.sleep(_BUSY_PAUSE_S)
        return _at_once()

    async def _use(self, _origin: ServerName, body: UserVersionBody) -> DoneJson | Refused:
        user_id, version = UserId(body.user_id), Version(body.version)
        used = await self._runtime.database.run("recovery_use", partial(_use, self._own, user_id, version))
        if isinstance(used, Refused):
            return used
        await self._given_up(used[0])
        return DoneJson(changed=used[1])

    async def _give_up(self, _origin: ServerName, body: UserVersionBody) -> DoneJson:
        user_id, version = UserId(body.user_id), Version(body.version)
        marks = await self._runtime.database.run(
            "recovery_give_up", lambda cur: service.give_up(cur, self._own, user_id, version)
        )
        return await self._given_up(marks)

    async def _state(self, _origin: ServerName, body: UserBody) -> SharesJson:
        now_ms = self._runtime.now_ms()
        shares = await self._runtime.database.run(
            "recovery_state", lambda cur: store.shares_of(cur, UserId(body.user_id))
        )
        return SharesJson(shares=[_state_json(each, now_ms) for each in shares])

    async def close(self, user_id: UserId) -> None:
        """The account of one of our people was closed: its shares go, here at once."""
        marks = await self._runtime.database.run("recovery_close", lambda cur: service.close(cur, self._own, user_id))
        await self._given_up(marks)

    # Between realms.

    async def _witness(self, origin: ServerName, body: MarkBody) -> DoneJson | Refused:
        mark = _mark(origin, UserId(body.user_id), Version(body.version), body)
        refused = await self._runtime.database.run("recovery_witness", lambda cur: service.witness(cur, mark))
        return refused or DoneJson()

    async def _recall(self, origin: ServerName, body: UserVersionBody) -> KnownBody:
        known = await self._runtime.database.run(
            "recovery_recall",
            lambda cur: service.recall(cur, origin, UserId(body.user_id), Version(body.version)),
        )
        return KnownBody(
            mark=None
            if known is None
            else KnownMark(
                epoch=known.epoch,
                guesses=known.guesses,
                attempt_id=known.attempt_id,
                gone=known.gone,
                signature=known.signature,
            )
        )

    async def _tell(self, plan: Plan) -> list[_Told]:
        """Tell the other realms of a guess: at first as many as it takes, the rest where these do not answer."""
        needed = rules.acknowledgements(plan.share.threshold)
        mark = plan.mark.signed(self.key.signing)
        # Those that were silent last come last, so that one that hangs makes one guess slow and not each.
        others = sorted(self._others(plan.share), key=lambda realm: realm in self._silent)
        told: list[_Told] = []
        for realms in (others[:needed], others[needed:]):
            missing = needed - told.count("known")
            if missing > 0 and "behind" not in told:
                told += await until(
                    [partial(self._tell_one, realm, mark) for realm in realms],
                    partial(_enough, missing),
                )
        return told

    async def _tell_one(self, realm: ServerName, mark: Mark, *, catches_up: bool = True) -> _Told:
        body = MarkBody(
            user_id=mark.user_id,
            version=mark.version,
            epoch=mark.epoch,
            guesses=mark.guesses,
            attempt_id=mark.attempt_id,
            gone=mark.gone,
            signature=mark.signature,
        )
        try:
            answered = await self.peers.ask(realm, What.WITNESS, body.model_dump(mode="json"))
            if not isinstance(answered, Refused):
                self._silent.discard(realm)
                return "known"
            if answered.reason is Reason.PEER_UNREACHABLE:
                self._silent.add(realm)
            if answered.reason is Reason.RECOVERY_BEHIND and catches_up:
                known = KnownMark.parse(dict(answered.fields))
                if not isinstance(known, Refused) and await self._caught_up(realm, mark.user_id, mark.version, known):
                    return "behind"
        except Exception:
            logger.exception("%s could not be told of a guess", realm)
        return "silent"

    async def _check(self, share: Share) -> Refused | None:
        """Ask the other realms whether they know of something newer; RECOVERY_UNWITNESSED if too few answer."""
        needed = rules.confirmations(len(share.realms), share.threshold)
        asked = await until(
            [partial(self._ask_one, realm, share) for realm in self._others(share)],
            lambda answers: answers.count(True) >= needed,
        )
        if asked.count(True) < needed:
            until_ms = await self._runtime.database.run("recovery_vouched", store.vouched_until_ms)
            if until_ms <= self._runtime.now_ms():
                return _unwitnessed()
        self._checked.add((share.user_id, share.version))
        return None

    async def _ask_one(self, realm: ServerName, share: Share) -> bool:
        """Whether it answered. What it knows is taken over before that."""
        body = UserVersionBody(user_id=share.user_id, version=share.version)
        try:
            answered = await self.peers.ask(realm, What.RECALL, body.model_dump(mode="json"))
            known = answered if isinstance(answered, Refused) else KnownBody.parse(dict(answered))
            if isinstance(known, Refused):
                return False
            return known.mark is None or await self._caught_up(realm, share.user_id, share.version, known.mark)
        except Exception:
            logger.exception("%s could not be asked of a share", realm)
            return False

    async def _caught_up(self, realm: ServerName, user_id: UserId, version: Version, known: KnownMark) -> bool:
        """Take over what we once said ourselves. False if we did not: then that realm lies."""
        mark = _mark(self._own, user_id, version, known)
        if not mark.is_signed_by(self.key.signing):
            logger.warning("%s says of one of our shares what we never said, so it does not count", realm)
            return False
        now_ms = self._runtime.now_ms()
        await self._runtime.database.run(
            "recovery_catch_up", lambda cur: service.catch_up(cur, user_id, version, [mark], now_ms)
        )
        return True

    def _told_later(self, share: Share, marks: Sequence[Mark]) -> DoneJson:
        """Nobody waits for these: without them the other realms remember more guesses than there were, never fewer."""
        for mark in marks:
            signed = mark.signed(self.key.signing)
            for realm in self._others(share):
                self._runtime.api.run_as_background_process(
                    "superapp_recovery_tell", partial(self._tell_quietly, realm, signed)
                )
        return DoneJson(changed=bool(marks))

    async def _tell_quietly(self, realm: ServerName, mark: Mark) -> None:
        # The next guess may have overtaken it, so that one who is told of both late takes this one for old.
        await self._tell_one(realm, mark, catches_up=False)

    async def _given_up(self, marks: Sequence[Mark]) -> DoneJson:
        for mark in marks:
            share = await self._runtime.database.run(
                "recovery_share", partial(store.share, user_id=mark.user_id, version=mark.version)
            )
            if share is not None:
                self._told_later(share, [mark])
        return DoneJson()

    def _others(self, share: Share) -> list[ServerName]:
        return [realm for realm in share.realms if realm != self._own]

    def _open(self, user_id: UserId, version: Version, sealed: str) -> Deal | Refused:
        info = seal_info(self._own, user_id, version)
        try:
            return Deal.read(json.loads(sealing.unseal(self.key.sealing, info, from_b64(sealed))))
        except (ValueError, sealing.Unreadable):
            return Refused(
                reason=Reason.INVALID_VALUE,
                message="What is sealed is for another key, account or version; load the page again.",
            )


def _enough(missing: int, told: Sequence[_Told]) -> bool:
    return "behind" in told or told.count("known") >= missing


def _use(own: ServerName, user_id: UserId, version: Version, cur: Any) -> tuple[Sequence[Mark], bool] | Refused:
    """What to tell the other realms, and whether the version was not in use before."""
    before = store.share(cur, user_id, version)
    marks = service.put_in_use(cur, own, user_id, version)
    return marks if isinstance(marks, Refused) else (marks, before is not None and before.state is State.PENDING)


def _count(plan: Plan, blinded: str | None, nonce: str, now_ms: int, cur: Cursor) -> Share | None:
    return service.count_guess(cur, plan, blinded, nonce, now_ms)


def _mark(realm: ServerName, user_id: UserId, version: Version, body: MarkBody | KnownMark) -> Mark:
    return Mark(
        realm=realm,
        user_id=user_id,
        version=version,
        epoch=body.epoch,
        guesses=body.guesses,
        attempt_id=None if body.attempt_id is None else AttemptId(body.attempt_id),
        gone=body.gone,
        signature=body.signature,
    )


def _state_json(share: Share, now_ms: int) -> ShareStateJson:
    wait = rules.judge_wait(share, now_ms)
    retry_after_ms = 0 if wait is None else wait.fields["retry_after_ms"]
    return ShareStateJson(
        version=share.version,
        state=share.state.value,
        guesses_left=service.guesses_left(share),
        retry_after_ms=retry_after_ms if isinstance(retry_after_ms, int) else 0,
    )


def _starting() -> Refused:
    return Refused(reason=Reason.STARTING, message="The server is starting; try again in a moment.")


def _at_once() -> Refused:
    return Refused(
        reason=Reason.TOO_MANY_REQUESTS,
        message="Several guesses came at once; try again in a moment.",
        fields={"retry_after_ms": 1_000},
    )


def _unwitnessed() -> Refused:
    return Refused(
        reason=Reason.RECOVERY_UNWITNESSED,
        message="Too few of the other realms answer, so this guess was not made and does not count; try again later.",
    )

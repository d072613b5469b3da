"""Decisions of the directory: who may take, rename, release and see a handle. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from super_app.directory.model import (
    DAY_MS,
    AskedBy,
    Discover,
    FrozenFor,
    Holding,
    KeptFor,
    Name,
    Origin,
    Role,
    Standing,
    State,
)
from super_app.directory.naming import NamePolicy, check_new
from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId

MAX_ALIASES: Final = 2
RENAME_PAUSE_MS: Final = 28 * DAY_MS
OWNER_MAY_TAKE_BACK_MS: Final = 30 * DAY_MS
FREE_AFTER_MS: Final = 90 * DAY_MS


class Step(Enum):
    """What a claim has to write."""

    KEEP = "keep"  # the account holds the name already
    TAKE_BACK = "take_back"  # its own released name
    TAKE = "take"  # nobody's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that may go ahead, as far as the rules know; the unique skeleton has the last word."""

    name: Name
    step: Step
    role: Role
    renames: bool
    """Whether it counts as the one rename in 28 days."""


def decide_claim(
    standing: Standing,
    text: str,
    held: Holding | None,
    *,
    role: Role | None,
    policy: NamePolicy,
    localpart_of: UserId | None,
    now_ms: int,
) -> Claim | Refused:
    """Whether an account may hold a name, and as what.

    ``held`` is the holding of that name, if any; ``localpart_of`` the account of this homeserver whose localpart it
    is, if any (it need not have a holding yet).
    """
    gone = next((each for each in standing.holdings if each.state is State.MOVED), None)
    if gone is not None:
        return has_moved(gone.name)
    if held is not None and held.acct == standing.acct and not is_free(held, now_ms):
        return _claim_own(standing, held, role, now_ms)
    # Asked first, so that a short localpart is said to be taken and not too short.
    if held is not None and not is_free(held, now_ms):
        return name_taken(held.name)
    if localpart_of is not None and localpart_of != standing.user_id:
        return name_taken(localpart_of.removeprefix("@").partition(":")[0])
    name = check_new(text, policy)
    if isinstance(name, Refused):
        return name
    return _with_room_for(standing, Claim(name=name, step=Step.TAKE, role=Role.PRIMARY, renames=False), role, now_ms)


def _claim_own(standing: Standing, held: Holding, role: Role | None, now_ms: int) -> Claim | Refused:
    match held.state:
        case State.FROZEN:
            return frozen_refusal(None, held.name)
        case State.ACTIVE:
            now = Role.PRIMARY if held.primary else Role.ALIAS
            wanted = now if role is None else role
            if wanted is Role.ALIAS and now is Role.PRIMARY:
                return Refused(
                    reason=Reason.INVALID_VALUE,
                    message=f"{held.name} is your primary handle; make another one primary and it becomes an alias.",
                )
            claim = Claim(name=held.name, step=Step.KEEP, role=wanted, renames=False)
            return claim if wanted is now else _renaming(standing, claim, now_ms)
        case State.MOVED:
            return has_moved(held.name)
        case State.RELEASED:
            if held.kept_for is KeptFor.REVOKED:
                return Refused(
                    reason=Reason.HANDLE_TAKEN,
                    message=f"The operator of this homeserver took {held.name} from you; choose another, or ask them.",
                )
            if now_ms - (held.released_ms or 0) >= OWNER_MAY_TAKE_BACK_MS:
                when = "it is free for everyone 90 days after" if held.kept_for is None else "nobody gets it any more"
                return Refused(
                    reason=Reason.HANDLE_TAKEN, message=f"You released {held.name} more than 30 days ago; {when}."
                )
            claim = Claim(name=held.name, step=Step.TAKE_BACK, role=Role.PRIMARY, renames=False)
            return _with_room_for(standing, claim, role, now_ms)
        case State.FREE:
            raise ValueError("a free name is nobody's own")
        case _:
            assert_never(held.state)


def _with_room_for(standing: Standing, claim: Claim, role: Role | None, now_ms: int) -> Claim | Refused:
    """The claim with its role, if one more name fits: the localpart counts only while it is the primary handle."""
    wanted = Role.PRIMARY if role is None else role
    aliases = [each for each in _counted(standing) if not each.primary]
    # A new primary turns a claimed primary into an alias, so that people who know the old name still find you.
    claimed_primary = any(each.primary and each.origin is not Origin.LOCALPART for each in _counted(standing))
    more = 1 if wanted is Role.ALIAS or claimed_primary else 0
    if len(aliases) + more > MAX_ALIASES:
        names = ", ".join(sorted(each.name for each in aliases))
        return Refused(
            reason=Reason.TOO_MANY_HANDLES,
            message=f"You have one primary handle and {MAX_ALIASES} aliases ({names}); release one of them first.",
        )
    fitting = Claim(name=claim.name, step=claim.step, role=wanted, renames=False)
    return _renaming(standing, fitting, now_ms) if wanted is Role.PRIMARY else fitting


def _renaming(standing: Standing, claim: Claim, now_ms: int) -> Claim | Refused:
    """The first choice of a handle is free, and so is going back to what was chosen last."""
    if standing.last_primary in (None, claim.name):
        return claim
    wait_ms = standing.renamed_ms + RENAME_PAUSE_MS - now_ms
    if wait_ms > 0:
        days = -(-wait_ms // DAY_MS)
        return Refused(
            reason=Reason.RENAMED_RECENTLY,
            message=(
                f"You may change your handle once in 28 days; wait {days} more, "
                'or add the name as an alias with {"as": "alias"}.'
            ),
            fields={"retry_after_ms": wait_ms},
        )
    return Claim(name=claim.name, step=claim.step, role=claim.role, renames=True)


def _counted(standing: Standing) -> list[Holding]:
    return [
        each
        for each in standing.holdings
        if each.state in (State.ACTIVE, State.FROZEN) and each.origin is not Origin.LOCALPART
    ]


def decide_release(held: Holding | None, acct: Acct, text: str) -> Holding | Refused:
    if held is None or held.acct != acct or held.state in (State.RELEASED, State.FREE):
        return no_such_handle(text)
    if held.state is State.FROZEN:
        return frozen_refusal(None, held.name)
    if held.state is State.MOVED:
        return has_moved(held.name)
    if held.origin is Origin.LOCALPART:
        return Refused(
            reason=Reason.NOT_ALLOWED,
            message=(
                f"{held.name} is part of your user id and stays reserved for you for ever; to be found under it no "
                'more, set {"discover": "none"}.'
            ),
        )
    return held


def is_free(held: Holding, now_ms: int) -> bool:
    """Whether anybody may take a name that was released."""
    if held.state is State.FREE:
        return True
    if held.kept_for is not None:
        return False
    return held.state is State.RELEASED and now_ms - (held.released_ms or 0) >= FREE_AFTER_MS


def blocks_registration(held: Holding, user_id: UserId, now_ms: int) -> bool:
    """Whether this name counts as taken for a new account ``user_id`` with that localpart."""
    return held.user_id != user_id and not is_free(held, now_ms)


class Sight(Enum):
    """How much of a handle an asker gets."""

    RECORD = "record"
    SERVICES = "services"
    NOTHING = "nothing"


def sight_of(held: Holding, by: AskedBy, *, is_owner: bool, shares_room: bool) -> Sight:
    """What an asker sees who asks for this handle, or for the user id that it spells.

    Whoever asks by user id knows the localpart, which is a handle too; a hidden person with a room in common can
    still be paid and rung.
    """
    if held.state in (State.RELEASED, State.FREE) or forwards_no_more(held):
        return Sight.NOTHING
    if is_owner or held.discover is not Discover.NONE:
        return Sight.RECORD
    return Sight.SERVICES if by is AskedBy.USER_ID and shares_room else Sight.NOTHING


def in_feed(held: Holding) -> bool:
    if forwards_no_more(held):
        return False
    return held.discover is Discover.PUBLIC and held.state in (State.ACTIVE, State.FROZEN, State.MOVED)


def forwards_no_more(held: Holding) -> bool:
    """Whether its account moved so long ago that this homeserver does not say where any more."""
    return held.state is State.MOVED and held.moved_to is None


def name_taken(name: str) -> Refused:
    return Refused(reason=Reason.HANDLE_TAKEN, message=f"{name} is taken; choose another.")


def looks_taken(name: Name) -> Refused:
    """Does not say what it looks like: that may be the handle of somebody who hides it."""
    return Refused(
        reason=Reason.HANDLE_LOOKALIKE,
        message=f"{name} looks too much like a handle that is taken; choose one that cannot be confused with it.",
    )


def claims_too_fast(limit: str, wait_ms: int) -> Refused:
    hours = -(-wait_ms // 3_600_000)
    return Refused(
        reason=Reason.TOO_MANY_REQUESTS,
        message=f"No more than {limit} can be taken; try again in {hours} h, or ask the operator of this homeserver.",
        fields={"retry_after_ms": wait_ms},
    )


def no_such_handle(text: str) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_HANDLE,
        message=f"There is no handle {text[:255]!a} for you to see; check the spelling and the server after the colon.",
    )


def has_moved(name: Name) -> Refused:
    return Refused(
        reason=Reason.NOT_ALLOWED,
        message=f"{name} moved to another homeserver and only leads there now; change your handle on that one.",
    )


def frozen_refusal(why: FrozenFor | None, text: str) -> Refused:
    if why is FrozenFor.AMBIGUOUS:
        return Refused(
            reason=Reason.AMBIGUOUS_PAYEE,
            message=(
                f"{text[:255]!a} is one person's handle and another person's user id, so it names nobody until "
                "the operator has decided; use another handle of the person you mean."
            ),
        )
    return Refused(
        reason=Reason.HANDLE_FROZEN,
        message=f"{text[:255]!a} is frozen until the operator of its homeserver has decided whose it is.",
    )

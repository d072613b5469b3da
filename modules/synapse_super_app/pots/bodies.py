"""What the routes of gifts and links take and give, as JSON. What a gift or link says also goes between homeservers."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from super_app.errors import Reason, Refused
from super_app.ids import UserId, parse_user_id
from super_app.payments.model import WireAmount, WireCurrency
from super_app.pots import rules
from super_app.pots.model import SHARES_MAX, Pot, PotId, PotState, Share, ShareState
from super_app.signing import canonical, from_b64, to_b64
from super_app.wire import WireModel, is_text
from synapse_super_app.payments.bodies import PasskeyAnswer

_DEFAULT_PAGE = 20
_MAX_MS = 2**53 - 1
_SECRET_MAX = 64

WireId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
_User = Annotated[str, Field(min_length=1, max_length=255)]
_Pin = Annotated[str | None, Field(max_length=8, description="Where one is asked for (PIN_REQUIRED).")]


class GiftBody(WireModel):
    """A gift to the people of a room, or with ``for`` to one of them. Equal or random shares."""

    gift_id: WireId
    room_id: Annotated[str, Field(min_length=1, max_length=255)]
    amount: WireAmount
    currency: WireCurrency
    shares: Annotated[int, Field(description=f"1 to {SHARES_MAX}.")] = 1
    split: Literal["equal", "random"] = "random"
    memo: str | None = None
    only: Annotated[str | None, Field(alias="for", max_length=255, description="User id or full handle.")] = None
    pin: _Pin = None
    passkey: PasskeyAnswer = None


class LinkBody(WireModel):
    """Money for whoever has no account with us yet. ``to`` gets a message that explains; else hand out ``link``."""

    claim_id: WireId
    amount: WireAmount
    currency: WireCurrency
    memo: str | None = None
    to: Annotated[_User | None, Field(description="A Matrix id of any homeserver.")] = None
    expires_ms: Annotated[
        int | None, Field(ge=0, le=_MAX_MS, description="Milliseconds since 1970; in 7 days if absent.")
    ] = None
    pin: _Pin = None
    passkey: PasskeyAnswer = None


class GiverQuery(WireModel):
    """Whose id it is; who claims names the giver, since ids are theirs."""

    giver: Annotated[str | None, Field(max_length=255)] = None


class RedeemBody(WireModel):
    link: Annotated[str, Field(min_length=1, max_length=2_000, description="As it was handed out.")]


class PageQuery(WireModel):
    since: Annotated[str | None, Field(description="``next`` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, description="At most 100 come at once.")] = _DEFAULT_PAGE

    def before(self) -> tuple[int, str] | Refused | None:
        return None if self.since is None else _read_token(self.since)


class MineJson(BaseModel):
    """What the asker has of it. ``paid`` once the money is in their wallet."""

    amount: int
    payment_id: str
    state: Literal["on_its_way", "paid", "failed"]
    reason: str | None = None


class ClaimJson(BaseModel):
    """Who has which share. ``number`` is its place among the drawn ones, from 0."""

    user_id: str
    number: int
    amount: int
    claimed_ts: int


class RevealJson(BaseModel):
    """What was drawn, once it is over.

    The unpadded base64url of the SHA-256 of the canonical JSON ``["superapp-gift-1", gift_id, salt, shares]`` is the
    gift's ``commitment``.
    """

    salt: str
    shares: list[int]


class GiftJson(BaseModel):
    """A gift as its giver or one of the room sees it. The answer to a claim tells of one's own share alone."""

    gift_id: str
    giver: str
    room_id: str
    event_id: str | None = None
    amount: int
    currency: str
    shares: int
    split: Literal["equal", "random"]
    memo: str | None = None
    only: Annotated[str | None, Field(serialization_alias="for", validation_alias="for")] = None
    state: Literal["open", "emptied", "expired", "cancelled"]
    commitment: str
    left: int
    shares_left: int
    claims: list[ClaimJson]
    luckiest: str | None = None
    reveal: RevealJson | None = None
    mine: MineJson | None = None
    created_ts: int
    expires_ts: int


class GiftsPage(BaseModel):
    gifts: list[GiftJson]
    next: str | None = None


class LinkJson(BaseModel):
    """Money under a link. ``link`` is shown to its payer alone; ``told`` says whether a message went to ``to``."""

    claim_id: str
    payer: str
    amount: int
    currency: str
    memo: str | None = None
    to: str | None = None
    state: Literal["open", "claimed", "expired", "cancelled"]
    link: str | None = None
    told: bool | None = None
    room_id: str | None = None
    event_id: str | None = None
    claimed_by: str | None = None
    mine: MineJson | None = None
    created_ts: int
    expires_ts: int


class LinksPage(BaseModel):
    claims: list[LinkJson]
    next: str | None = None


class WantedJson(WireModel):
    """What a homeserver asks the giver's for one of its people."""

    giver: _User
    pot_id: WireId
    kind: Literal["gift", "link"]
    claimer: _User
    payment_id: WireId | None = None
    secret: Annotated[str | None, Field(max_length=_SECRET_MAX)] = None


def gift_json(
    pot: Pot,
    shares: Sequence[Share],
    viewer: UserId,
    failed: str | None = None,
    failed_share: Share | None = None,
    left: tuple[int, int] | None = None,
) -> GiftJson:
    """``left`` is how many shares are free and what they come to, where not all ``shares`` are given."""
    free = [share for share in shares if share.state is ShareState.FREE]
    shares_left, left_minor = left or (len(free), sum(share.amount_minor for share in free))
    taken = [share for share in shares if share.state is ShareState.TAKEN and share.claimer is not None]
    best = rules.luckiest(pot.split, shares) if pot.state is not PotState.OPEN else None
    return GiftJson.model_validate(
        {
            "gift_id": pot.pot_id,
            "giver": pot.giver,
            "room_id": pot.room_id or "",
            "event_id": pot.event_id,
            "amount": pot.money.amount_minor,
            "currency": pot.money.currency,
            "shares": pot.shares,
            "split": pot.split.value,
            "memo": pot.memo,
            "for": pot.only,
            "state": pot.state.value,
            "commitment": pot.commitment,
            "left": left_minor,
            "shares_left": shares_left,
            "claims": [
                ClaimJson(
                    user_id=share.claimer or "",
                    number=share.number,
                    amount=share.amount_minor,
                    claimed_ts=share.claimed_ms or 0,
                )
                for share in taken
            ],
            "luckiest": None if best is None else best.claimer,
            "reveal": None if pot.state is PotState.OPEN else reveal_json(pot, shares),
            "mine": _mine(shares, viewer, failed, failed_share),
            "created_ts": pot.created_ms,
            "expires_ts": pot.expires_ms,
        }
    )


def reveal_json(pot: Pot, shares: Sequence[Share]) -> RevealJson:
    return RevealJson(salt=pot.salt, shares=[share.amount_minor for share in shares])


def link_json(
    pot: Pot,
    shares: Sequence[Share],
    viewer: UserId,
    link: str | None,
    failed: str | None = None,
    failed_share: Share | None = None,
) -> LinkJson:
    (share,) = shares
    claimed = share.state is ShareState.TAKEN
    over = pot.state if pot.state in (PotState.EXPIRED, PotState.CANCELLED) else PotState.OPEN
    is_payer = viewer == pot.giver
    return LinkJson.model_validate(
        {
            "claim_id": pot.pot_id,
            "payer": pot.giver,
            "amount": pot.money.amount_minor,
            "currency": pot.money.currency,
            "memo": pot.memo,
            "to": pot.only,
            "state": "claimed" if claimed or pot.state is PotState.EMPTIED else over.value,
            "link": link if is_payer else None,
            "told": (pot.event_id is not None) if is_payer and pot.only is not None else None,
            "room_id": pot.room_id if is_payer else None,
            "event_id": pot.event_id if is_payer else None,
            "claimed_by": share.claimer if is_payer and claimed else None,
            "mine": _mine(shares, viewer, failed, failed_share),
            "created_ts": pot.created_ms,
            "expires_ts": pot.expires_ms,
        }
    )


def _mine(
    shares: Sequence[Share], viewer: UserId, failed: str | None, failed_share: Share | None
) -> dict[str, Any] | None:
    if failed is not None and failed_share is not None:
        return {
            "amount": failed_share.amount_minor,
            "payment_id": failed_share.payment_id,
            "state": "failed",
            "reason": failed,
        }
    had = next((share for share in shares if share.claimer == viewer and share.state is ShareState.TAKEN), None)
    if had is None:
        return None
    state = "paid" if had.paid else "on_its_way"
    return {"amount": had.amount_minor, "payment_id": had.payment_id, "state": state}


def link_token(pot: Pot) -> str:
    """What a link carries: whose money it is, under which id, and the secret that claims it."""
    return to_b64(canonical([pot.giver, pot.pot_id, pot.secret]))


def read_link(link: str) -> tuple[UserId, PotId, str] | Refused:
    """A link as it was handed out, or what of it stands behind the last ``#``."""
    unknown = Refused(reason=Reason.UNKNOWN_CLAIM, message="This is no link to money; copy all of it, to its very end.")
    try:
        found = json.loads(from_b64(link.strip().rpartition("#")[2]))
        payer, pot_id, secret = found
    except (ValueError, TypeError):
        return unknown
    if not (isinstance(payer, str) and isinstance(pot_id, str) and isinstance(secret, str)):
        return unknown
    user_id = parse_user_id(payer)
    if user_id is None or not is_text(pot_id) or not is_text(secret) or len(pot_id) > 32 or len(secret) > _SECRET_MAX:
        return unknown
    return user_id, PotId(pot_id), secret


def page_token(pot: Pot) -> str:
    """Where the page after this one begins. Opaque to clients."""
    return to_b64(canonical([pot.created_ms, pot.pot_id]))


def _read_token(token: str) -> tuple[int, str] | Refused:
    unknown = Refused(
        reason=Reason.INVALID_VALUE, message="since is not a token of this homeserver; use next of the page before."
    )
    try:
        created_ms, pot_id = json.loads(from_b64(token))
    except (ValueError, TypeError):
        return unknown
    if type(created_ms) is not int or not isinstance(pot_id, str) or not is_text(pot_id):
        return unknown
    return (created_ms, pot_id) if 0 <= created_ms <= _MAX_MS else unknown

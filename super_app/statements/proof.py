"""Receipts that prove themselves: what a homeserver signs about a payment, and how anybody checks it offline.

A proof is a flat signed object (``super_app.signing``), signed with the payment key of the homeserver that made it. It
travels as one word of text, ``superapp-receipt:`` and the base64url of its canonical JSON, in a QR code, in a PDF or in
a message. What it proves is what that homeserver says; who does not know its key knows nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from nacl.signing import SigningKey
from pydantic import Field

from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.money import MAX_AMOUNT_MINOR, MAX_SCALE, Asset, AssetCode, Money
from super_app.payments.model import Payment, State
from super_app.signing import canonical, digest, from_b64, signed, to_b64, verify
from super_app.wire import WireModel

PREFIX: Final = "superapp-receipt:"
TYPE: Final = "org.superapp.receipt"
_WORD: Final = re.compile(re.escape(PREFIX) + r"([A-Za-z0-9_-]+)")
_MAX_CHARACTERS: Final = 4_000


class ProofContent(WireModel):
    """What is signed. ``payee_receipt`` is the hash of what the payee's homeserver signed, if it is another."""

    type: Literal["org.superapp.receipt"]
    v: Literal[1]
    server: Annotated[str, Field(min_length=1, max_length=255)]
    payment_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    payer: Annotated[str, Field(min_length=1, max_length=255)]
    payee: Annotated[str, Field(min_length=1, max_length=255)]
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
    currency: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
    scale: Annotated[int, Field(ge=0, le=MAX_SCALE)]
    outcome: Literal["completed"]
    ordered_ms: Annotated[int, Field(ge=0, le=2**53 - 1)]
    refund_of: Annotated[str | None, Field(pattern=r"^[0-9a-f]{32}$")] = None
    payee_receipt: Annotated[str | None, Field(max_length=64)] = None
    key_id: Annotated[str, Field(max_length=64)]
    signature: Annotated[str, Field(max_length=128)]

    @property
    def money(self) -> Money:
        return Money(amount_minor=self.amount, currency=AssetCode(self.currency))

    @property
    def asset(self) -> Asset:
        return Asset(code=AssetCode(self.currency), scale=self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A payment key that somebody trusts to be a homeserver's."""

    server: ServerName
    key_id: str
    public_b64: str


def prove(payment: Payment, asset: Asset, server: ServerName, key: SigningKey) -> ProofContent | Refused:
    """What this homeserver signs about a payment of one of its people. ALREADY_DECIDED unless it is completed."""
    if payment.state is not State.COMPLETED:
        return Refused(
            reason=Reason.ALREADY_DECIDED if payment.state.final else Reason.CONFLICT,
            message=f"There is a receipt for a payment that was completed; this one is {payment.state.value}.",
            fields={"state": payment.state.value},
        )
    said: dict[str, Any] = {
        "type": TYPE,
        "v": 1,
        "server": server,
        "payment_id": payment.payment_id,
        "payer": payment.payer,
        "payee": payment.payee.user_id,
        "amount": payment.money.amount_minor,
        "currency": payment.money.currency,
        "scale": asset.scale,
        "outcome": "completed",
        "ordered_ms": payment.created_ms,
    }
    if payment.refund_of is not None:
        said["refund_of"] = payment.refund_of
    if payment.signed is not None:
        said["payee_receipt"] = digest({name: each for name, each in payment.signed.items() if name != "signature"})
    return ProofContent.model_validate(signed(said, key))


def word_of(proof: ProofContent) -> str:
    """The proof as text."""
    return PREFIX + to_b64(canonical(_json(proof)))


def read(text: str) -> ProofContent | Refused:
    """The first proof in a text. INVALID_VALUE if there is none, or none that can be read."""
    found = _WORD.search(text)
    if found is None:
        return _unreadable(f"There is no {PREFIX}… in it")
    try:
        content = json.loads(from_b64(found[1])) if len(found[1]) <= _MAX_CHARACTERS else None
    except ValueError:
        return _unreadable("It was cut off or changed on the way")
    proof = ProofContent.parse(content)
    return _unreadable("It is no receipt of this kind") if isinstance(proof, Refused) else proof


def check(proof: ProofContent, keys: Iterable[KnownKey]) -> Refused | None:
    """Whether one of the keys has signed it: KEY_UNCONFIRMED if none of them is the one named, BAD_SIGNATURE."""
    named = [each for each in keys if (each.server, each.key_id) == (proof.server, proof.key_id)]
    if not named:
        return Refused(
            reason=Reason.KEY_UNCONFIRMED,
            message=f"Signed with the key {proof.key_id}, which is not among the keys of {proof.server} that you have. "
            "It proves nothing until you have that key from that homeserver itself.",
        )
    if not any(verify(_json(proof), each.public_b64) for each in named):
        return Refused(
            reason=Reason.BAD_SIGNATURE,
            message=f"The signature is not that of {proof.server}: it was changed or made up. Do not trust it.",
        )
    return None


def other_amount(proof: ProofContent, shown: str, expected: str) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"It proves another amount: {shown}, and not {expected}. Do not trust what is written beside it.",
        fields={"amount": proof.amount, "currency": proof.currency},
    )


def _json(proof: ProofContent) -> Mapping[str, Any]:
    return proof.model_dump(exclude_none=True)


def _unreadable(why: str) -> Refused:
    return Refused(reason=Reason.INVALID_VALUE, message=f"{why}, so there is nothing to check.")

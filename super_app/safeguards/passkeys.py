"""What becomes of passkeys and challenges. The signatures themselves are looked at outside, by the shell.

A challenge is for one thing: a new passkey, or a payment of just this amount to just this payee at just this fee. It is
taken when it is answered, right or wrong, so that no answer counts twice. Each function runs in the transaction of the
ledger's writer; a refusal has written nothing but that the challenge is gone.
"""

from typing import Final

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.money import Money
from super_app.safeguards import passkey_store as store
from super_app.safeguards import store as safeguards
from super_app.safeguards.model import Challenge, Passkey
from super_app.signing import digest

PASSKEYS_MAX: Final = 10
"""Passkeys that one person may have."""
CHALLENGES_MAX: Final = 20
"""Challenges of one person that may wait at a time."""
CHALLENGE_MS: Final = 300_000
"""How long a challenge waits for its answer."""

NEW_PASSKEY: Final = "new passkey"


def about_payment(payee: str | None, money: Money, fee_minor: int) -> str:
    """What the answer to a challenge confirms. ``payee`` is a user id; None: whoever comes to claim it."""
    return digest(["payment", payee or "", money.amount_minor, money.currency, fee_minor])


def challenge(cur: Cursor, acct: Acct, wanted: Challenge, now_ms: int) -> tuple[Passkey, ...] | Refused:
    """Remember a challenge; gives the person's passkeys. PIN_NOT_SET, PASSKEY_REFUSED."""
    if safeguards.find(cur, acct).pin is None:
        return Refused(
            reason=Reason.PIN_NOT_SET,
            message="A passkey stands beside the PIN of your wallet, and you have none; set a PIN first.",
        )
    known = store.of(cur, acct)
    if wanted.about == NEW_PASSKEY and len(known) >= PASSKEYS_MAX:
        return refused(f"You have {PASSKEYS_MAX} passkeys already; take one away first.")
    if wanted.about != NEW_PASSKEY and not known:
        return refused("Your wallet has no passkey; use your PIN, or add a passkey in the settings.")
    if store.count_challenges(cur, acct, now_ms) >= CHALLENGES_MAX:
        return refused("Too many passkey prompts are open; wait five minutes, or use your PIN.")
    store.add_challenge(cur, acct, wanted, now_ms)
    return known


def take(cur: Cursor, acct: Acct, answered: str, about: str, now_ms: int) -> Refused | None:
    """The challenge that an answer names is used up; PASSKEY_REFUSED if it was not for this."""
    found = store.take_challenge(cur, acct, answered)
    if found is None or found.expires_ms <= now_ms:
        return refused("That passkey prompt is over; try again.")
    if found.about != about:
        return refused("What you confirmed with the passkey is another payment than this; look at it and try again.")
    return None


def add(cur: Cursor, acct: Acct, passkey: Passkey) -> Refused | None:
    if safeguards.find(cur, acct).pin is None or len(store.of(cur, acct)) >= PASSKEYS_MAX:
        return refused("The passkeys of your wallet have changed meanwhile; look at them and try again.")
    if store.find(cur, acct, passkey.credential_id) is not None:
        return refused("Your wallet has that passkey already.")
    store.add(cur, acct, passkey)
    return None


def used(cur: Cursor, acct: Acct, passkey: Passkey, sign_count: int, now_ms: int) -> Refused | None:
    if store.used(cur, acct, passkey, sign_count, now_ms):
        return None
    return refused("That passkey was used at the same moment elsewhere, or taken away; try again.")


def refused(message: str) -> Refused:
    return Refused(reason=Reason.PASSKEY_REFUSED, message=message)

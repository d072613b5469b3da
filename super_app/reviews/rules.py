"""Pure decisions of reviews: how a list of names is read, and what it finds in a payment."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ids import Handle, UserId, localpart_of
from super_app.payments.model import Payment
from super_app.reviews.model import Review

_WORD: Final = re.compile(r"[^\W_]+")
ENTRY_MAX: Final = 200


def read_list(text: str) -> tuple[str, ...]:
    """The entries of a list: one a line, ``#`` begins a comment. What has no word in it is none."""
    lines = (line.partition("#")[0].strip()[:ENTRY_MAX] for line in text.splitlines())
    return tuple(line for line in lines if line and (line.startswith("@") or words_of(line)))


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text without case, accents and what stands between them."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return tuple(_WORD.findall(plain.casefold()))


def match(payment: Payment, entries: Iterable[str], shown: Iterable[str] = ()) -> str | None:
    """The first entry that is in a payment: a user id or handle as a whole, or a name as words in a row.

    Names are looked for in both people's user ids and handles, in ``shown``, the names that they show, and in the
    memo; a refund matches none, since it only goes back to whom the money came from.
    """
    if payment.refund_of is not None:
        return None
    return match_people((payment.payer, payment.payee.user_id, payment.payee.handle), payment.memo, entries, shown)


def match_people(
    named: Iterable[UserId | Handle | None], memo: str | None, entries: Iterable[str], shown: Iterable[str] = ()
) -> str | None:
    """``match`` of whoever is named, and of a memo."""
    people = [each for each in named if each is not None]
    whole = {each.casefold() for each in people}
    texts = [*(words_of(localpart_of(each)) for each in people), *map(words_of, shown), words_of(memo or "")]
    for entry in entries:
        if entry.startswith("@"):
            if entry.casefold() in whole:
                return entry
        elif any(_holds(text, words_of(entry)) for text in texts):
            return entry
    return None


def _holds(text: tuple[str, ...], name: tuple[str, ...]) -> bool:
    return any(text[start : start + len(name)] == name for start in range(len(text) - len(name) + 1))


def unknown_review(payment_id: str) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_PAYMENT, message=f"No payment {payment_id[:64]} of that payer was ever held for review."
    )


def decided(review: Review) -> Refused:
    return Refused(
        reason=Reason.ALREADY_DECIDED,
        message=f"This payment was {review.state.value} already.",
        fields={"state": review.state.value},
    )

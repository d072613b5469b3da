"""The refusals that people meet through the assistant, each as one sentence of theirs.

The homeserver's own sentences are English and speak to clients too (of ids and fields). These are for people, and are
translated. A reason that is not listed is said in the homeserver's words.
"""

from collections.abc import Mapping
from typing import Final

from super_app.errors import Reason


def say(sentence: str) -> str:
    """Marks a sentence for the extraction; it is translated where it is said."""
    return sentence


SENTENCES: Final[Mapping[Reason, str]] = {
    Reason.UNKNOWN_PAYEE: say("There is nobody of that handle. Ask them for it, and write all of it."),
    Reason.UNKNOWN_HANDLE: say("There is nobody of that handle. Ask them for it, and write all of it."),
    Reason.HANDLE_INVALID: say("That is not a handle; one looks like @bob:example.org."),
    Reason.HANDLE_FROZEN: say("That handle is frozen, so nobody can be reached by it now. Ask the person for another."),
    Reason.AMBIGUOUS_PAYEE: say(
        "Two people could be meant by that handle, so nothing was done. The operator of their homeserver has to decide."
    ),
    Reason.PAYEE_IS_SELF: say("That is you. Name somebody else."),
    Reason.PAYEE_GONE: say("That account does not exist any more."),
    Reason.PAYEE_MOVED: say("They moved to another homeserver, and nothing was done. Ask them where they are now."),
    Reason.MOVED_RECENTLY: say(
        "They moved to another homeserver less than three days ago, and that is too much for now. Ask them by another "
        "way whether it was they, and pay less or later."
    ),
    Reason.PAYEE_NOT_IN_ROOM: say("They are not in that room. Pay them from here instead."),
    Reason.NOT_IN_ROOM: say("You are not in that room any more."),
    Reason.ROOM_ENCRYPTED: say("That does not work in an encrypted room. Say it to me here instead."),
    Reason.NOT_ALLOWED: say("They do not take that from you. Write to them and ask to be let in."),
    Reason.INSUFFICIENT_FUNDS: say("You do not have enough money for that. Say `balance` to see what you have."),
    Reason.FEE_NOT_CONFIRMED: say("The fee is another one than you confirmed, so nothing was paid. Say it again."),
    Reason.LIMIT_EXCEEDED: say("That is more than your limit allows now. Try a smaller amount, or wait."),
    Reason.ACCOUNT_FROZEN: say("The account is frozen by its operator. Ask them what to do."),
    Reason.PAYMENTS_HALTED: say("Payments are halted on this homeserver now. Try again later; nothing was paid."),
    Reason.UNKNOWN_CURRENCY: say("This homeserver does not pay in that currency. Say `balance` to see which it knows."),
    Reason.INVALID_AMOUNT: say("That amount cannot be paid."),
    Reason.MEMO_TOO_LONG: say("The text is too long; shorten it."),
    Reason.NO_LINK: say("This homeserver has no agreement with theirs to pay each other. Ask its operator for one."),
    Reason.LINK_HALTED: say("Payments to their homeserver are stopped for the moment. Try again later."),
    Reason.LINK_SUSPENDED: say("Payments to their homeserver are suspended. Try again later."),
    Reason.CREDIT_LIMIT: say("Their homeserver takes no more from ours at the moment. Try again later."),
    Reason.PEER_UNREACHABLE: say("Their homeserver cannot be reached now. Try again later."),
    Reason.BAD_RECORD: say("Their homeserver says things about that handle that cannot be verified. Try again later."),
    Reason.UNKNOWN_PAYMENT: say("I do not find that payment. Say `history` to see your last ones."),
    Reason.UNKNOWN_REQUEST: say("I do not find that request. Say `accept` to see what waits for you."),
    Reason.REQUEST_CLOSED: say("That request is not open any more, or somebody is just paying it."),
    Reason.REQUEST_MISMATCH: say(
        "That is not what was asked for; pay the amount of the request, to the person who asks."
    ),
    Reason.ALREADY_DECIDED: say("That is decided already and can no longer be changed."),
    Reason.DECLINED: say("That was declined."),
    Reason.EXPIRED: say("That has expired."),
    Reason.CANCELLED: say("That was cancelled."),
    Reason.PIN_REQUIRED: say("That needs your PIN. Never write it to me; do it in your wallet."),
    Reason.PRICE_CHANGED: say("Another amount is asked by now, and nothing was set aside. Ask me for it again."),
    Reason.PRICE_NOT_CONFIRMED: say("That call costs money by the minute. Say `call price` and whom you want to call."),
    Reason.DEPOSIT_REQUIRED: say("They ask strangers for a deposit. Say `deposit` and whom you want to write to."),
    Reason.UNKNOWN_CONTACT: say("They are not among your contacts."),
    Reason.TOO_MANY_REQUESTS: say("That was too often in a short time. Wait a little and try again."),
    Reason.STARTING: say("The homeserver is starting. Try again in a moment."),
    Reason.DISK_FULL: say("The homeserver's disk is full. Try again later, and tell its operator."),
}

"""Payment keys that are pinned anew, after one was lost or stolen, or a link had been frozen.

Both operators order it, each with the fingerprint of the other's key, which they were told on a way that is not this
one. Each side then opens a new epoch with a FENCE that brings its key; the recovery after a restore does the rest. A
key that nobody has confirmed signs nothing here, and one that was replaced so signs nothing any more: not in the new
epochs, nor in what the older ones left open. Here is what was ordered and asked for, and whose key that lets in.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from super_app.clearing import objects, repin_store, store
from super_app.clearing.model import ChainObject, KeyId, Link, LinkState, MessageId, MessageType, Sender
from super_app.db import Cursor
from super_app.errors import Reason, Refused


def brings_unknown_key(cur: Cursor, link: Link, found: ChainObject) -> bool:
    """Whether it is a FENCE that brings another key than the one that is pinned for its place."""
    if found.type is not MessageType.FENCE or found.key is None:
        return False
    return _pinned(cur, link, found) != found.key_id


def judge(cur: Cursor, link: Link, found: ChainObject) -> Refused | None:
    """Why the key of an object, whose signature is verified, signs nothing here now; None if it does.

    Writes down, although it refuses, which key the peer wants to be pinned, so that our operator sees it.
    """
    is_unknown = brings_unknown_key(cur, link, found)
    known = repin_store.repin(cur, link.link_id)
    is_recovering = link.state is LinkState.RECOVERING
    ordered = known.ordered and is_recovering
    if not is_unknown and not ordered:
        return _superseded(link) if is_recovering and known.asked else None
    if is_unknown and found.key_id in store.keys(cur, link.link_id, Sender.THEIRS):
        return Refused(
            reason=Reason.INVALID_VALUE, message="FENCE must bring the present key or one that this link has not had."
        )
    public = _public_key(cur, link, found)
    if ordered and objects.fingerprint_of(public) == known.confirmed:
        return None
    if is_unknown:
        repin_store.put(cur, replace(known, asked=objects.fingerprint_of(public)))
    return Refused(
        reason=Reason.KEY_UNCONFIRMED,
        message="The operator of this server has not confirmed the fingerprint of that payment key; tell it to them"
        " in another way, and both of you order super-app link repin.",
    )


def _superseded(link: Link) -> Refused:
    """A copy from a backup knows the key that was pinned when it was taken, and its peer shows another one.

    The keys may have been pinned anew since, because the one that is known here had been stolen. Who holds it must not
    be the one who tells this database what it has lost.
    """
    return Refused(
        reason=Reason.KEY_UNCONFIRMED,
        message=f"{link.peer} has shown another payment key than the one that signed this, and the operator of this"
        " server has not confirmed which of the two counts; they order super-app link repin.",
    )


def lets_in(cur: Cursor, link: Link, found: ChainObject, certified: AbstractSet[MessageId]) -> bool:
    """Whether a FENCE that the peer gave back brings a key that our operator has confirmed."""
    if not brings_unknown_key(cur, link, found) or found.key is None or found.message_id not in certified:
        return False
    public = found.key.public_key
    if not objects.certifies(found.key, link.peer) or not objects.is_signed_by(found, public):
        return False
    return judge(cur, link, found) is None


def is_vouched(
    cur: Cursor, link: Link, found: ChainObject, page: Sequence[ChainObject], certified: AbstractSet[MessageId]
) -> bool:
    """Whether a FENCE that the peer gave back, of a key that nobody ever confirmed, is one that a confirmed key names.

    A key may be lost again before the one that was to follow the first has been confirmed. Then the next FENCE stands
    by the epoch of that key, and what names it are the hashes of the objects behind it, all of which are in ``page``.
    """
    known = repin_store.repin(cur, link.link_id)
    if not known.ordered or not known.vouched or not brings_unknown_key(cur, link, found) or found.key is None:
        return False
    if found.message_id not in certified or not objects.certifies(found.key, link.peer):
        return False
    if not objects.is_signed_by(found, found.key.public_key):
        return False
    newest = found.message_id
    for each in sorted(page, key=lambda each: each.seq):
        if each.epoch == found.epoch and each.prev_hash == newest:
            newest = each.message_id
        if newest == known.vouched:
            return True
    return False


def waits(cur: Cursor, link: Link, our_fingerprint: str) -> tuple[str, ...]:
    """What an operator has to do or wait for, a sentence each. ``our_fingerprint`` is of the key that we show."""
    known = repin_store.repin(cur, link.link_id)
    peer = link.peer
    wait = ""
    if known.ordered and known.asked not in ("", known.confirmed):
        wait = (
            f"waits for you: you confirmed the key {known.confirmed} of {peer}, but it shows {known.asked}; ask its"
            f" operator again, then super-app link repin {peer} --fingerprint"
        )
    elif known.ordered:
        wait = (
            f"waits for the operator of {peer} to pin the payment keys anew as well: read them your fingerprint,"
            f" {our_fingerprint}"
        )
    elif known.asked and link.state is LinkState.RECOVERING:
        wait = (
            f"waits for you: this database is a copy from a backup and knows another payment key of {peer} than the"
            f" one that it shows, {known.asked}. If keys were pinned anew since, have its operator read it to you, then"
            f" super-app link repin {peer} --take-back --fingerprint"
        )
    elif known.asked:
        wait = (
            f"waits for you: {peer} wants to pin payment keys anew and shows the fingerprint {known.asked}; have its"
            f" operator read it to you, then super-app link repin {peer} --fingerprint"
        )
    return (wait,) if wait else ()


def _pinned(cur: Cursor, link: Link, found: ChainObject) -> KeyId | None:
    pinned = store.key_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
    return None if pinned is None else pinned[0]


def _public_key(cur: Cursor, link: Link, found: ChainObject) -> str:
    if found.type is MessageType.FENCE and found.key is not None:
        return found.key.public_key
    pinned = store.key_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
    return "" if pinned is None else pinned[1]

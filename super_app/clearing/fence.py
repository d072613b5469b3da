"""The side of a FENCE that was not restored: say what we hold of the peer's old epochs, and take nothing else of them.

A server that runs on a backup has lost the end of its chain. It opens a new epoch with FENCE, which says ``after``
which object of its own it knows no more. We answer with FENCED: all that we hold of it beyond. From then on of its old
epochs only that counts, and what it still knew itself; what neither of us has is void.
"""

from super_app.clearing import objects, rules, store
from super_app.clearing.chain import Chain, Handled, Taken
from super_app.clearing.model import ChainObject, Fence, Link, MessageType, Run, Sender, WireId
from super_app.db import Cursor
from super_app.errors import Reason, Refused


class Fences:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def on_fence(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        """The peer was restored and opens a new epoch. Our answer is decided here, in the transaction that closes."""
        lately = store.count_fences(cur, link.link_id, now_ms - rules.FENCES_SPAN_MS, now_ms)
        if lately >= rules.MAX_FENCES:
            return Refused(
                reason=Reason.TOO_MANY_REQUESTS,
                message=f"{lately} new epochs within an hour are too many; finish one, then try again.",
                fields={"retry_after_ms": rules.RETRY_MS[4]},
            )
        link_or_refused = self.close(cur, link, found, now_ms)
        if isinstance(link_or_refused, Refused):
            return link_or_refused
        return Taken(link=self.say_fenced(cur, link_or_refused, found, now_ms, due_ms))

    def close(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Link | Refused:
        """Store a FENCE of the peer: its chain goes on in the new epoch."""
        after = found.after
        if after is None:
            raise RuntimeError("FENCE is parsed with what it comes after")
        there = store.object_at(cur, link.link_id, Sender.THEIRS, after.epoch, after.seq)
        if there is not None and there.message_id != after.hash:
            return Refused(
                reason=Reason.CONFLICT,
                message=f"after is not the object that this server holds as number {after.seq} of epoch {after.epoch};"
                " ask for it with RANGE? and fence after the last one that both have.",
            )
        fence = Fence(epoch=found.epoch, after_epoch=after.epoch, after_seq=after.seq)
        store.add_fence(cur, link.link_id, Sender.THEIRS, fence)
        if found.key is not None:
            # Whether it may be pinned was decided before; the present one stays pinned where it is.
            public, certificate = found.key.public_key, found.key.certificate
            store.put_key(cur, link.link_id, Sender.THEIRS, found.key_id, public, certificate, found.epoch, found.seq)
        return self._chain.admit(cur, link, found, now_ms)

    def say_fenced(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Link:
        """Sign all that we hold beyond what every FENCE of this chain still stands by."""
        # An earlier restore may have gone back further than this one.
        after = min((each.after_epoch, each.after_seq) for each in store.fences(cur, link.link_id, Sender.THEIRS))
        runs = store.runs_after(cur, link.link_id, Sender.THEIRS, after, below_epoch=found.epoch)
        pages = _pages(runs)
        for number, page in enumerate(pages, start=1):
            fields = {
                "fence": found.message_id,
                "page": number,
                "pages": len(pages),
                "held": [objects.run_fields(each) for each in page],
            }
            link, _ = self._chain.append(
                cur,
                link,
                MessageType.FENCED,
                fields,
                due_ms=due_ms,
                now_ms=now_ms,
                wire_id=WireId(found.message_id),
            )
        return link


def _pages(runs: tuple[Run, ...]) -> list[tuple[Run, ...]]:
    """At least one, as an empty list is an answer too."""
    size = objects.MAX_RUNS
    return [runs[start : start + size] for start in range(0, max(1, len(runs)), size)]

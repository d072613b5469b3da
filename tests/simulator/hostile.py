"""What a homeserver does that is against all others: it holds its own right keys and says whatever it likes.

Underneath it runs the same code as everybody, so that it gets far into each exchange; on top of that it adds, replaces,
withholds, repeats and contradicts. It may have heard all that was ever sent between anybody, and no secret protects the
others from it. What it says of itself it signs rightly; other people's signatures it can only repeat.
"""

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from nacl.signing import SigningKey
from nodes import EUR, PTS, grant_of

from super_app.clearing import objects, store
from super_app.clearing.model import JsonObject, Link, LinkState, MessageType, Received, Sender, WireId
from super_app.clearing.ports import Order
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import EventId, PaymentId, RoomId, ServerName, UserId
from super_app.ledger.model import HoldId
from super_app.money import Money
from super_app.signing import digest

if TYPE_CHECKING:
    from simulated import Process

TERMS: Final = ("wire_id", "payer_commit", "payee_commit", "memo_commit", "amount", "currency", "scale", "e2e_id")
_OVERHEARD: Final = 200
"""Objects of one type that are remembered."""
_SILENCES_MS: Final = (5_000, 90_000, 40 * 60_000)


class Corpus:
    """Objects that were ever on the wire, by type."""

    def __init__(self) -> None:
        self.objects: dict[str, list[JsonObject]] = defaultdict(list)

    def hear(self, value: object) -> None:
        if isinstance(value, dict) and isinstance(value.get("type"), str):
            there = self.objects[value["type"]]
            if len(there) < _OVERHEARD:
                there.append(value)


class Mind:
    def __init__(self, seed: str, names: list[ServerName], corpus: Corpus, throw: Callable[..., None]) -> None:
        self.random = random.Random(seed)
        self.quiet = False
        self.lists_falsely = False
        self.silent_until_ms = 0
        self._names = names
        self._corpus = corpus
        self._throw = throw
        self._made = 0
        self._heard: set[tuple[str, str, str]] = set()
        self._moves: tuple[Callable[[Process, ServerName], str], ...] = (
            self._offer,
            self._offer,
            self._offer,
            self._flood,
            self._commit_unoffered,
            self._abort_unoffered,
            self._contradict,
            self._contradict,
            self._repeat,
            self._equivocate,
            self._equivocate,
            self._imitate,
            self._imitate,
            self._mutate,
            self._mutate,
            self._mutate,
            self._false_seen,
            self._break_chain,
            self._open_again,
            self._limit,
            self._ask,
            self._garbage,
            self._fall_silent,
        )

    def may_fence(self) -> None:
        """From now on it opens new epochs too."""
        self._moves = (*self._moves, self._fence, self._fence)

    # What the world asks of it.

    def retire(self, process: "Process") -> None:
        """From here on it does as its code says, and no longer sends what it made up."""
        self.quiet = True
        process.disk(lambda cur: cur.execute("DELETE FROM superapp_clearing_outbox"))

    def act(self, process: "Process", now_ms: int) -> str:
        """One move; says which."""
        if self.quiet or now_ms < self.silent_until_ms:
            return "rests"
        victim = self.random.choice(self._names)
        move = self.random.choice(self._moves)
        if move == self._fall_silent:
            self.silent_until_ms = now_ms + self.random.choice(_SILENCES_MS)
        return f"{move.__name__.strip('_').replace('_', ' ')} at {victim} {move(process, victim)}".strip()

    def is_silent(self, now_ms: int) -> bool:
        return not self.quiet and (now_ms < self.silent_until_ms or self.random.random() < 0.03)

    def outgoing(self, process: "Process", body: JsonObject) -> list[JsonObject]:
        """What it sends where its code would send ``body``."""
        if self.quiet or self.random.random() < 0.9:
            return [body]
        content = body["object"]
        match self.random.randrange(4):
            case 0:
                return []
            case 1:
                return [body, body, body]
            case 2:
                return [{**body, "object": self._resealed(process, self._mutated(content))}]
            case _:
                return [body, {**body, "object": self._resealed(process, self._mutated(content))}]

    def answer(self, process: "Process", body: Any, received: Received | Refused) -> Received | Refused:
        """What it answers where its code would answer ``received``."""
        content = body.get("object") if isinstance(body, dict) else None
        kind = content.get("type", "") if isinstance(content, dict) else ""
        is_to_list = kind == "FENCE" and self.lists_falsely
        lies = 0.5 if is_to_list or str(kind).endswith("?") else 0.1
        if self.quiet or self.random.random() >= lies:
            return received
        said = list(received.objects) if isinstance(received, Received) else []
        everything = [each for kinds in self._corpus.objects.values() for each in kinds]
        if is_to_list and said and self.random.random() < 0.7:
            # Made up instead of the right one, or beside it.
            pages = [self._resealed(process, self._relisted(each)) for each in said]
            return Received(objects=tuple(pages if self.random.random() < 0.7 else (*pages, *said)))
        match self.random.randrange(7):
            case 0:
                return Received(objects=())
            case 1:
                return Refused(
                    reason=self.random.choice(list(Reason)),
                    message="no",
                    fields=self.random.choice(({}, {"retry_after_ms": self.random.choice((0, 1, 10**12))})),
                )
            case 2:
                return Received(objects=tuple(self._resealed(process, self._mutated(each)) for each in said))
            case 3 if everything:
                return Received(objects=(*said, self.random.choice(everything)))
            case 4 if everything:
                return Received(objects=tuple(self.random.choice(everything) for _ in range(5)))
            case 5:
                return Received(objects=tuple(said * 60))
            case _:
                return Received(objects=tuple(self.random.choice(_GARBAGE) for _ in range(3)))

    def _relisted(self, page: JsonObject) -> JsonObject:
        """A page of FENCED that says it holds more of the other's chain, or less, or another one."""
        held = [dict(each) for each in page.get("held", [])]
        changed = {**page, "held": held}
        match self.random.randrange(6):
            case 0:
                changed["held"] = []
            case 1 if held:
                held.pop(self.random.randrange(len(held)))
            case 2 if held:
                run = self.random.choice(held)
                run["last"] += self.random.choice((1, 5, 1_000))
            case 3 if held:
                run = self.random.choice(held)
                run["last"] = max(run["first"], run["last"] - 1)
            case 4 if held:
                self.random.choice(held)["hash"] = digest("nothing that anybody signed")
            case _:
                changed["pages"] = page.get("pages", 1) + 1
        return changed

    def heard(self, process: "Process", peer: ServerName, content: Any) -> None:
        """Somebody's object has come; its code has dealt with it."""
        if self.quiet or not isinstance(content, dict) or content.get("from_server") != peer:
            return
        said = (peer, str(content.get("wire_id")), str(content.get("type")))
        if said in self._heard or "seq" not in content or "type" not in content:
            return
        self._heard.add(said)
        terms = {name: content[name] for name in TERMS if name in content}
        match content["type"], self.random.random():
            case "OFFER", chance if chance < 0.3:
                for kind, fields in self.random.choice(
                    (
                        (("RECEIPT", {"reason": "credited"}),),
                        (("RECEIPT", {"reason": "void"}),),
                        (("ACCEPT", {"valid_ms": 600_000}), ("ACCEPT", {"valid_ms": 86_400_000})),
                        (("REJECT", {"reason": "declined"}), ("ACCEPT", {"valid_ms": 600_000})),
                        (("ACCEPT", {"valid_ms": 1}),),
                        (("PENDING", {"ttl_ms": 86_400_000}), ("PENDING", {"ttl_ms": 86_400_000})),
                        (("COMMIT", {}),),
                        (("ACCEPT", {"valid_ms": 600_000, "amount": content["amount"] + 1}),),
                    )
                ):
                    self._say(process, peer, kind, {**terms, **fields})
            case "ACCEPT", chance if chance < 0.7:
                for kind, fields in self.random.choice(
                    (
                        (("COMMIT", {}),),
                        (("COMMIT", {}),),
                        (("ABORT", {"reason": "cancelled"}),),
                        (("COMMIT", {}), ("ABORT", {"reason": "cancelled"})),
                        (("ABORT", {"reason": "cancelled"}), ("COMMIT", {})),
                        (("COMMIT", {"amount": content["amount"] * 2}),),
                        (("COMMIT", {}), ("COMMIT", {})),
                    )
                ):
                    self._say(process, peer, kind, {**terms, **fields})
            case (("COMMIT" | "ABORT"), chance) if chance < 0.3:
                for reason in self.random.choice(
                    (("credited",), ("void",), ("credited", "void"), ("void", "credited"))
                ):
                    self._say(process, peer, "RECEIPT", {**terms, "reason": reason})
            case _:
                pass

    # Its moves. Each says what came of it.

    def _offer(self, process: "Process", victim: ServerName) -> str:
        """A payment out of nothing: its own people have as much money as it says."""
        order = self._order(process, victim)
        opening = objects.opening_of(order)
        terms = objects.terms_fields(objects.terms_of(order, 2 if order.money.currency == EUR.code else 0))
        match self.random.randrange(12):
            case 0:
                opening = self._mutated(opening)
            case 1:
                opening["payer"]["user_id"] = f"@alice:{self.random.choice(self._names)}"
            case 2:
                terms = self._mutated(terms)
            case 3:
                terms["wire_id"] = self._some_wire_id()
            case _:
                pass
        self._say(process, victim, "OFFER", {**terms, "ttl_ms": self.random.choice((1, 60_000, 86_400_000))}, opening)
        return f"{order.money.amount_minor}"

    def _flood(self, process: "Process", victim: ServerName) -> str:
        count = self.random.choice((3, 10))
        for _ in range(count):
            order = self._order(process, victim, amount_minor=1)
            terms = objects.terms_fields(objects.terms_of(order, 2 if order.money.currency == EUR.code else 0))
            self._say(process, victim, "OFFER", {**terms, "ttl_ms": 60_000}, objects.opening_of(order))
        return f"{count}"

    def _commit_unoffered(self, process: "Process", victim: ServerName) -> str:
        order = self._order(process, victim)
        self._say(process, victim, "COMMIT", objects.terms_fields(objects.terms_of(order, 2)))
        return ""

    def _abort_unoffered(self, process: "Process", victim: ServerName) -> str:
        count = self.random.choice((1, 5))
        for _ in range(count):
            order = self._order(process, victim)
            terms = objects.terms_fields(objects.terms_of(order, 2))
            self._say(process, victim, "ABORT", {**terms, "reason": "cancelled"})
        return f"{count}"

    def _contradict(self, process: "Process", victim: ServerName) -> str:
        """Say of a payment what may have been said otherwise before."""
        known = self._between(process, victim)
        if not known:
            return ""
        content = self.random.choice(known)
        terms: JsonObject = {name: content[name] for name in TERMS if name in content}
        kind, fields = self.random.choice(
            (
                ("COMMIT", {}),
                ("ABORT", {"reason": "expired"}),
                ("RECEIPT", {"reason": "credited"}),
                ("RECEIPT", {"reason": "void"}),
                ("ACCEPT", {"valid_ms": 600_000}),
                ("REJECT", {"reason": "declined"}),
                ("PENDING", {"ttl_ms": 86_400_000}),
                ("OFFER", {"ttl_ms": 60_000}),
            )
        )
        self._say(process, victim, kind, {**terms, **fields})
        return f"{kind} {content['wire_id'][:6]}"

    def _repeat(self, process: "Process", victim: ServerName) -> str:
        """Any object that anybody ever sent, byte for byte."""
        everything = [each for kinds in self._corpus.objects.values() for each in kinds]
        if not everything:
            return ""
        content = self.random.choice(everything)
        self._throw(process, victim, {"object": content})
        return f"{content['type']}"

    def _equivocate(self, process: "Process", victim: ServerName) -> str:
        own = self._own(process, victim)
        if not own:
            return ""
        content = self.random.choice(own)
        self._throw(process, victim, {"object": self._resealed(process, self._mutated(content))})
        return f"{content['type']} {content['seq']}"

    def _imitate(self, process: "Process", victim: ServerName) -> str:
        """What others said to each other, said by itself, in its right place."""
        kind, content = self._template()
        if kind == "":
            return ""
        fields = {name: value for name, value in content.items() if name not in _FRAME}
        known = self._between(process, victim)
        if "wire_id" in fields and known and self.random.random() < 0.5:
            payment = self.random.choice(known)
            fields |= {name: payment[name] for name in TERMS if name in payment}
        self._say(process, victim, kind, fields)
        return kind

    def _mutate(self, process: "Process", victim: ServerName) -> str:
        """The same with anything else in its fields."""
        kind, content = self._template()
        link = process.disk.look(lambda cur: store.link(cur, objects.link_id_of(process.name, victim)))
        if kind == "" or link is None:
            return ""
        placed = {
            **content,
            "link_id": link.link_id,
            "epoch": link.our_epoch,
            "seq": link.our_seq + 1,
            "prev_hash": link.our_hash,
            "from_server": process.name,
            "to_server": victim,
        }
        changed = placed
        for _ in range(self.random.choice((1, 1, 2, 4))):
            changed = self._mutated(changed)
        self._throw(process, victim, {"object": self._resealed(process, changed)})
        return f"{kind} {sorted(name for name in placed if changed.get(name) != placed[name])}"

    def _false_seen(self, process: "Process", victim: ServerName) -> str:
        theirs = [each for each in self._overheard_of(victim) if "signature" in each]
        seen: JsonObject = {
            "seq": self.random.choice((1, 7, 5_000)),
            "hash": digest(self.random.random().hex()),
            "signature": "A" * 86,
        }
        if theirs and self.random.random() < 0.7:
            some = self.random.choice(theirs)
            seen |= {"hash": objects.message_id_of(some), "signature": some["signature"]}
            seen["seq"] = self.random.choice((some["seq"], some["seq"] + 1))
        self._say(process, victim, "LIMIT", {**objects.grant_fields(grant_of(100_000)), "seen": seen})
        return ""

    def _fence(self, process: "Process", victim: ServerName) -> str:
        """A new epoch, behind whatever it likes of its chain, with a key of its own or without."""
        own = self._own(process, victim)
        link = process.disk.look(lambda cur: store.link(cur, objects.link_id_of(process.name, victim)))
        if not own or link is None:
            return ""
        last = self.random.choice(own)
        epoch = link.our_epoch + self.random.choice((1, 1, 2, 101))
        content: JsonObject = {
            **{name: last[name] for name in ("v", "link_id", "from_server", "to_server", "seen")},
            "type": "FENCE",
            "epoch": epoch,
            "seq": 1,
            "prev_hash": "",
            "after": {"epoch": last["epoch"], "seq": last["seq"], "hash": objects.message_id_of(last)},
        }
        if self.random.random() < 0.3:
            fields = objects.certificate_fields(process.name, process.node.key)
            content["key"] = objects.key_fields(fields["public_key"], process.node.certify(fields))
        self._throw(process, victim, {"object": self._resealed(process, content)})
        return f"{epoch}"

    def _break_chain(self, process: "Process", victim: ServerName) -> str:
        link = process.disk.look(lambda cur: store.link(cur, objects.link_id_of(process.name, victim)))
        if link is None:
            return ""
        seq = link.our_seq + self.random.choice((0, 1, 2, 5, 9_000, 20_000))
        content = {
            "v": 1,
            "type": "LIMIT",
            "link_id": link.link_id,
            "epoch": self.random.choice((1, link.our_epoch, link.our_epoch + 1)),
            "seq": max(1, seq),
            "prev_hash": digest(self.random.random().hex()),
            "from_server": process.name,
            "to_server": victim,
            "seen": {"seq": 0, "hash": "", "signature": ""},
            **objects.grant_fields(grant_of(self.random.choice((0, 100_000)))),
        }
        self._throw(process, victim, {"object": objects.seal(content, process.node.key)})
        return f"{seq}"

    def _open_again(self, process: "Process", victim: ServerName) -> str:
        """LINK_OPEN once more, with the pinned key or another one."""
        own = self._own(process, victim, "LINK_OPEN")
        if not own:
            return ""
        key = self.random.choice((process.node.key, SigningKey(self.random.randbytes(32))))
        public = objects.certificate_fields(process.name, key)
        fields = {name: value for name, value in own[0].items() if name not in ("key_id", "signature")}
        fields["key"] = {"public_key": public["public_key"], "certificate": process.node.certify(public)}
        fields["currencies"] = [objects.grant_fields(grant_of(1, asset)) for asset in (EUR, PTS)]
        self._throw(process, victim, {"object": objects.seal(fields, key)})
        return ""

    def _limit(self, process: "Process", victim: ServerName) -> str:
        limit = self.random.choice((0, 1, 300, 100_000, 2**53 - 1))
        self._say(process, victim, "LIMIT", objects.grant_fields(grant_of(limit, self.random.choice((EUR, PTS)))))
        return f"{limit}"

    def _ask(self, process: "Process", victim: ServerName) -> str:
        kind = self.random.choice((MessageType.HEAD, MessageType.RANGE, MessageType.STATUS))
        of = ServerName(self.random.choice((process.name, victim)))
        between = (of, ServerName(self.random.choice(self._names)))
        content = objects.query_fields(kind, objects.link_id_of(process.name, victim), process.name, victim)
        if kind is MessageType.RANGE:
            bounds = [self.random.choice((1, 2, 2**53 - 1)) for _ in range(3)]
            content |= {"of": between[0], "epoch": bounds[0], "from_seq": bounds[1], "to_seq": bounds[2]}
        elif kind is MessageType.STATUS:
            content |= {"wire_id": self._some_wire_id()}
        self._throw(process, victim, {"object": content if self.random.random() < 0.5 else self._mutated(content)})
        return kind.value

    def _garbage(self, process: "Process", victim: ServerName) -> str:
        body = self.random.choice((*_GARBAGE, *({"object": each} for each in _GARBAGE)))
        self._throw(process, victim, body)
        return ""

    def _fall_silent(self, process: "Process", victim: ServerName) -> str:
        return ""

    # What it makes them of.

    def _say(
        self, process: "Process", peer: ServerName, kind: str, fields: JsonObject, opening: JsonObject | None = None
    ) -> None:
        """Sign it as the next object of its chain, whatever it says, and leave it to the outbox."""

        def work(cur: Cursor) -> None:
            link = store.link(cur, objects.link_id_of(process.name, peer))
            if link is None or link.our_open_ms == 0:
                return
            wire_id = fields.get("wire_id")
            wire_id = WireId(wire_id) if isinstance(wire_id, str) else None
            if opening is not None and wire_id is not None:
                store.put_opening(cur, link.link_id, Sender.OURS, wire_id, opening, process.node.now_ms)
            process.node.clearing._chain.append(
                cur,
                self._unbound(cur, process, link),
                MessageType(kind),
                dict(fields),
                due_ms=process.node.now_ms,
                now_ms=process.node.now_ms,
                wire_id=wire_id,
            )

        process.disk(work)

    def _unbound(self, cur: Cursor, process: "Process", link: Link) -> Link:
        """Nothing that its code has found out holds it back."""
        link = replace(link, state=LinkState.ACTIVE, checked_boot=process.node.boot)
        store.put_link(cur, link)
        return link

    def _order(self, process: "Process", victim: ServerName, amount_minor: int | None = None) -> Order:
        self._made += 1
        again = self._made > 1 and self.random.random() < 0.1
        payment_id = PaymentId(f"{digest([process.name, 1 if again else self._made]).encode().hex()[:32]}")
        payer = process.node.party(process.node.user(self.random.choice(("alice", "bob"))))
        payee = UserId(f"@{self.random.choice(('alice', 'bob', 'nobody'))}:{victim}")
        asset = self.random.choice((EUR, EUR, PTS))
        amount = self.random.choice((1, 99, 300, 600, 5_000)) if amount_minor is None else amount_minor
        salts = [self.random.randbytes(16).hex() for _ in range(4)]
        return Order(
            payment_id=payment_id,
            hold_id=HoldId(f"{payer.acct}:{payment_id}"),
            payer=payer,
            payee=replace(payer, user_id=payee, acct=""),
            money=Money(amount_minor=amount, currency=asset.code),
            memo=None,
            room_id=RoomId("!room:hs1.test"),
            event_id=EventId(f"$event-{payment_id}"),
            refund_of=None,
            wire_salt=salts[0],
            salts=(salts[1], salts[2], salts[3]),
        )

    def _own(self, process: "Process", peer: ServerName, kind: str | None = None) -> list[JsonObject]:
        return [
            each
            for each in self._overheard_of(process.name)
            if each.get("to_server") == peer and kind in (None, each["type"])
        ]

    def _overheard_of(self, name: str) -> list[JsonObject]:
        return [
            each
            for kinds in self._corpus.objects.values()
            for each in kinds
            if each.get("from_server") == name and type(each.get("seq")) is int
        ]

    def _between(self, process: "Process", peer: ServerName) -> list[JsonObject]:
        """Objects of payments on this link."""
        ends = {process.name, peer}
        return [
            each
            for kinds in self._corpus.objects.values()
            for each in kinds
            if isinstance(each.get("wire_id"), str)
            and "amount" in each
            and {each.get("from_server"), each.get("to_server")} == ends
        ]

    def _template(self) -> tuple[str, JsonObject]:
        kinds = sorted(kind for kind in self._corpus.objects if not kind.endswith("?"))
        if not kinds:
            return "", {}
        kind = self.random.choice(kinds)
        return kind, self.random.choice(self._corpus.objects[kind])

    def _some_wire_id(self) -> str:
        known = [
            each["wire_id"]
            for kinds in self._corpus.objects.values()
            for each in kinds
            if isinstance(each.get("wire_id"), str)
        ]
        return self.random.choice(known) if known else digest("nothing")

    def _resealed(self, process: "Process", content: JsonObject) -> JsonObject:
        """With its own right signature, where there can be one."""
        if self.random.random() < 0.1:
            return content
        try:
            return objects.seal(
                {name: value for name, value in content.items() if name not in ("key_id", "signature")},
                process.node.key,
            )
        except (KeyError, TypeError, ValueError):
            return content

    def _mutated(self, content: Mapping[str, Any]) -> JsonObject:
        """One field otherwise: another value, another type, gone, or one too many."""
        changed = copy.deepcopy(dict(content))
        name = self.random.choice(sorted(changed))
        match self.random.randrange(12):
            case 0:
                del changed[name]
            case 1:
                changed["extra"] = 1
            case _:
                changed[name] = self._otherwise(name, changed[name])
        return changed

    def _otherwise(self, name: str, value: Any) -> Any:
        if isinstance(value, dict) and value and self.random.random() < 0.7:
            return self._mutated(value)
        if isinstance(value, list) and value and self.random.random() < 0.7:
            return [self._otherwise(name, each) for each in value]
        others = [
            each[name]
            for kinds in self._corpus.objects.values()
            for each in kinds
            if name in each and each[name] != value
        ]
        if others and self.random.random() < 0.5:
            return copy.deepcopy(self.random.choice(others))
        if type(value) is int:
            return self.random.choice(
                (0, 1, -1, value + 1, value - 1, value * 2, 2**53 - 1, 2**53, True, str(value), value + 0.5, None)
            )
        if isinstance(value, str):
            return self.random.choice(
                ("", value[:-1], f"{value}A", value.upper(), digest(value), "x" * 70_000, 7, None, True, "\x00", "ü")
            )
        return self.random.choice((None, {}, [], 0, "", {"a": {"b": {}}}))


_FRAME: Final = frozenset(
    ("v", "type", "link_id", "epoch", "seq", "prev_hash", "from_server", "to_server", "seen", "key_id", "signature")
)
_GARBAGE: Final[tuple[Any, ...]] = (
    None,
    [],
    {},
    7,
    "x",
    {"type": "HEAD?"},
    {"type": 7},
    {"object": {}},
    {"v": 1, "type": "COMMIT"},
    {"amount": 1.5},
)

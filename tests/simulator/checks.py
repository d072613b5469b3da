"""What must hold of honest homeservers after every step, and when all has come to rest. Reads only.

The figures are taken from the ledger and from the rows of payments, not from those that the code under test keeps for
itself. ``Auditor`` reads along on the wire.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bank import Bank
from nodes import EUR, PTS
from simulated import Process, Violated

from super_app.clearing import objects, store
from super_app.clearing.model import ChainObject, LinkState, MessageId, MessageType, Sender
from super_app.db import Cursor
from super_app.ids import ServerName
from super_app.ledger.model import due_from, due_to, in_transit
from super_app.money import Asset, AssetCode

_DECISIONS: Final = ("COMMIT", "ABORT")


class Auditor:
    """Sees every object that an honest homeserver lets out, and remembers what it said in it."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, int, int], str] = {}
        self._words: dict[tuple[str, str, str, str], str] = {}

    def sent(self, sender: Process, to: ServerName, content: Any) -> None:
        """An object of ``sender`` is on its way; a query, or one that it merely passes on, says nothing."""
        if not sender.honest or "seq" not in content or content["from_server"] != sender.name:
            return
        name, message_id = sender.name, objects.message_id_of(content)
        _demand(sender.disk.look(_has_committed(message_id)), f"{name} sends what it has not committed: {content}")
        if sender.forgetful:
            # What never arrived anywhere, and what a fence has made void, may be said otherwise. What did arrive, those
            # who hold it compare; they are among the homeservers here.
            return
        place = (name, to, content["epoch"], content["seq"])
        there = self._places.setdefault(place, message_id)
        _demand(there == message_id, f"{name} signs two objects in one place of its chain: {content}")
        kind = "decision" if content["type"] in _DECISIONS else content["type"]
        if kind not in ("decision", "ACCEPT", "REJECT", "RECEIPT"):
            return
        word = f"{content['type']} {content.get('reason', '')}" if kind in ("decision", "RECEIPT") else message_id
        said = self._words.setdefault((name, to, content["wire_id"], kind), word)
        _demand(said == word, f"{name} says {said} and {word} of {content['wire_id']}")


class Checks:
    """The invariants of ``docs/clearing.md`` over all homeservers of a run."""

    def __init__(
        self, processes: Mapping[ServerName, Process], issued: Mapping[tuple[str, str], int], bank: Bank
    ) -> None:
        self._processes = processes
        self._issued = issued
        self._bank = bank
        self._found: dict[ServerName, _Found] = {}
        self._taken: dict[tuple[ServerName, ServerName, str], int] = {}
        self._granted: dict[tuple[ServerName, ServerName, str], int] = {}

    def step(self) -> None:
        honest = [each for each in self._processes.values() if each.honest]
        changed = [process for process in honest if process.has_changed()]
        for process in changed:
            self._found.pop(process.name, None)
            process.disk.look(lambda cur, p=process: self._one(p, cur))  # type: ignore[misc]
        for one, other in itertools.permutations([each for each in honest if not each.forgetful], 2):
            if one in changed or other in changed:
                self._pair(one, other)

    def rest(self) -> None:
        """No trouble any more for days: everything has ended, and the books of honest pairs are equal."""
        honest = [each for each in self._processes.values() if each.honest]
        for process in honest:
            violations = process.node.violations()
            _demand(not violations, f"{process.name}: {violations}")
            process.disk.look(_paid_once(process))
        for process in honest:
            process.disk.look(lambda cur, p=process: self._undone(p, cur))  # type: ignore[misc]
        for payer, payee in itertools.permutations(honest, 2):
            if not payer.forgetful and not payee.forgetful:
                payee.disk.execute("SELECT state FROM superapp_clearing_link WHERE peer = ?", (payer.name,))
                _demand(
                    payee.disk.fetchone() in (None, ("active",)), f"{payee.name} does not come back to {payer.name}"
                )
            for asset in (EUR, PTS):
                owed = payer.disk.look(_read).owed(payee.name, asset)
                owing = payee.disk.look(_read).owing(payer.name, asset)
                _demand(owed == owing, f"I3 at rest: {payer.name} owes {owed}, {payee.name} counts on {owing}")

    def noticed(self, process: Process, peer: ServerName, content: Any) -> None:
        """Whoever has seen two objects in one place, both rightly signed, deals with their signer no longer."""
        found = objects.read_object(content)
        if not isinstance(found, ChainObject) or found.type is MessageType.LINK_OPEN:
            return
        if (found.from_server, found.to_server, found.link_id) != (
            peer,
            process.name,
            objects.link_id_of(peer, process.name),
        ):
            return
        cur = process.disk
        link = store.link(cur, found.link_id)
        there = store.object_at(cur, found.link_id, Sender.THEIRS, found.epoch, found.seq)
        if link is None or there is None or there.message_id == found.message_id or found.epoch != link.their_epoch:
            return
        if found.type is MessageType.FENCE:
            # Of two for one epoch the first counts: a server that was restored twice cannot know of the other.
            return
        key = store.key_at(cur, found.link_id, Sender.THEIRS, found.epoch, found.seq)
        if key is not None and key[0] == found.key_id and objects.is_signed_by(found, key[1]):
            _demand(link.state is not LinkState.ACTIVE, f"{process.name} does not see that {peer} equivocates")

    def _one(self, process: Process, cur: Cursor) -> None:
        cur.execute("SELECT currency, SUM(balance_minor) FROM superapp_ledger_account GROUP BY currency")
        for currency, total in cur.fetchall():
            _demand(total == 0, f"I1, I6: {process.name} {currency} sums to {total}")
        cur.execute("SELECT currency, -balance_minor FROM superapp_ledger_account WHERE kind = 'issued'")
        for currency, total in cur.fetchall():
            # A settlement that is paid out burns what was issued, one that is received issues.
            issued = self._issued.get((process.name, str(currency)), 0)
            there = (process.name, AssetCode(str(currency)))
            least, most = issued - self._bank.out[there], issued + self._bank.into[there]
            _demand(
                least <= int(total or 0) <= most,
                f"I6: {process.name} has {total} {currency} out, where it must be {least} to {most}",
            )
        cur.execute(
            "SELECT COUNT(*) FROM superapp_ledger_account WHERE kind IN ('available', 'held') AND balance_minor < 0"
        )
        _demand(cur.fetchone() == (0,), f"I2: {process.name} has a negative balance")
        cur.execute(
            "SELECT (SELECT COALESCE(SUM(balance_minor), 0) FROM superapp_ledger_account WHERE kind = 'held')"
            " - (SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_ledger_hold WHERE state = 'open')"
        )
        _demand(cur.fetchone() == (0,), f"I2: {process.name}'s held is not its open holds")
        self._decided_once(process, cur)
        if not process.forgetful:
            self._given_back_once(process, cur)
        self._credit(process, cur)
        if not process.forgetful:
            cur.execute("SELECT peer, stopped_why FROM superapp_clearing_link WHERE state = 'halted'")
            halted = cur.fetchall()
            _demand(not halted, f"{process.name} was talked into believing that it is old: {halted}")
        cur.execute(
            "SELECT o.payment_id, o.amount_minor, SUM(r.amount_minor) FROM superapp_payment AS o JOIN superapp_payment"
            " AS r ON r.refund_of = o.payment_id AND r.payee_user_id = o.payer_user_id"
            " AND r.payer_user_id = o.payee_user_id WHERE r.state IN ('committed', 'completed')"
            " GROUP BY o.payer_key, o.payment_id HAVING SUM(r.amount_minor) > o.amount_minor"
        )
        excess = cur.fetchall()
        _demand(not excess, f"{process.name} gave back more than was paid: {excess}")

    def _decided_once(self, process: Process, cur: Cursor) -> None:
        """I4, as far as one side sees it: the money of each payment has gone where its state says, and once."""
        cur.execute(
            "SELECT p.wire_id, p.state, COALESCE(h.state, 'missing') FROM superapp_clearing_out AS p"
            " LEFT JOIN superapp_ledger_hold AS h ON h.hold_id = p.hold_id WHERE COALESCE(h.state, 'missing') <>"
            " CASE WHEN p.state IN ('offered', 'asked') THEN 'open' WHEN p.state = 'aborted' THEN 'voided'"
            " ELSE 'posted' END"
        )
        # What a restored database is told of had no hold there; its money moves by other entries.
        wrong = [row for row in cur.fetchall() if not (process.forgetful and row[2] == "missing")]
        _demand(not wrong, f"I4: {process.name} has payments whose holds are otherwise: {wrong}")
        cur.execute(
            "SELECT reference, COUNT(*) FROM superapp_ledger_entry WHERE cause IN ('commit', 'credit', 'undo')"
            " GROUP BY reference, cause, debit_id, credit_id HAVING COUNT(*) > 1"
        )
        twice = cur.fetchall()
        _demand(not twice, f"I4: {process.name} moves the money of one payment twice: {twice}")
        cur.execute(
            "SELECT p.wire_id, p.state FROM superapp_clearing_in AS p JOIN superapp_clearing_link AS l"
            " ON l.link_id = p.link_id WHERE (p.state = 'credited') <> EXISTS (SELECT 1 FROM superapp_ledger_entry AS e"
            " JOIN superapp_ledger_account AS a ON a.account_id = e.debit_id"
            " WHERE e.cause IN ('credit', 'restore') AND e.reference = p.wire_id AND a.owner = l.peer)"
        )
        wrong = cur.fetchall()
        _demand(not wrong, f"I4: {process.name} credits what it should not, or the other way round: {wrong}")

    def _given_back_once(self, process: Process, cur: Cursor) -> None:
        """What was advanced to a payer is theirs once, and what comes back of that payment is not theirs as well."""
        cur.execute(
            "SELECT p.wire_id, p.state, SUM(e.cause = 'advance'), SUM(e.cause = 'advance_back'),"
            " SUM(e.cause = 'undo' AND c.kind = 'available')"
            " FROM superapp_clearing_advance AS v JOIN superapp_clearing_out AS p"
            " ON p.link_id = v.link_id AND p.wire_id = v.wire_id"
            " JOIN superapp_ledger_entry AS e ON e.reference = p.wire_id"
            " JOIN superapp_ledger_account AS c ON c.account_id = e.credit_id GROUP BY p.link_id, p.wire_id, p.state"
        )
        for wire_id, state, given, taken, undone in cur.fetchall():
            _demand(
                (given, taken, undone) == (1, 1 if state == "aborted" else 0, 0),
                f"{process.name} gave {state} {wire_id} back {given} times, took {taken} back and undid {undone}",
            )

    def _credit(self, process: Process, cur: Cursor) -> None:
        """I5, and that nobody owes an honest homeserver more than it once granted him."""
        cur.execute(
            "SELECT l.peer, c.currency, COALESCE(c.our_limit_minor, 0),"
            " COALESCE((SELECT -a.balance_minor FROM superapp_ledger_account AS a WHERE a.owner = l.peer"
            "  AND a.currency = c.currency AND a.kind = 'due_from'), 0),"
            " COALESCE((SELECT a.balance_minor FROM superapp_ledger_account AS a WHERE a.owner = l.peer"
            "  AND a.currency = c.currency AND a.kind = 'due_to'), 0),"
            " COALESCE((SELECT SUM(p.amount_minor) FROM superapp_clearing_in AS p WHERE p.link_id = l.link_id"
            "  AND p.currency = c.currency AND p.state = 'accepted'), 0),"
            " COALESCE((SELECT SUM(p.amount_minor) FROM superapp_clearing_out AS p WHERE p.link_id = l.link_id"
            "  AND p.currency = c.currency AND p.state = 'committed'), 0),"
            " COALESCE((SELECT SUM(s.amount_minor) FROM superapp_clearing_settlement AS s WHERE s.link_id = l.link_id"
            "  AND s.currency = c.currency AND s.way = 'out' AND s.state IN ('proposed', 'agreed')), 0),"
            " COALESCE((SELECT SUM(s.amount_minor) FROM superapp_clearing_settlement AS s WHERE s.link_id = l.link_id"
            "  AND s.currency = c.currency AND s.way = 'out' AND s.state IN ('sent', 'disputed', 'received')), 0)"
            " FROM superapp_clearing_currency AS c JOIN superapp_clearing_link AS l ON l.link_id = c.link_id"
        )
        for peer, currency, *figures in cur.fetchall():
            limit, owing, owed, reserved, unsure, claimed, settled = (int(each or 0) for each in figures)
            key = (process.name, ServerName(str(peer)), str(currency))
            used = max(0, owing + reserved - (owed - unsure))
            grew = owing + reserved > self._taken.get(key, 0)
            _demand(
                not grew or used <= limit or process.forgetful,
                f"I5: {process.name} lets {peer} use {used} of {limit} {currency}",
            )
            self._taken[key] = owing + reserved
            granted = self._granted[key] = max(limit, self._granted.get(key, 0))
            # A debtor who settles before all is netted risks that much more.
            _demand(
                owing - owed <= granted + settled or process.forgetful,
                f"{process.name} can lose {owing - owed} {currency} to {peer}, whom it granted {granted} at the most",
            )
            _demand(
                claimed <= owed - unsure or claimed == 0 or process.forgetful,
                f"{process.name} settles {claimed} {currency} with {peer}, which receipted {owed - unsure}",
            )

    def _pair(self, payer: Process, payee: Process) -> None:
        """The two books against each other, while objects may be under way."""
        here, there = self._found_at(payer), self._found_at(payee)
        for asset in (EUR, PTS):
            owed, owing = here.owed(payee.name, asset), there.owing(payer.name, asset)
            _demand(
                owed >= owing >= 0, f"I3: {payer.name} owes {payee.name} {owed}, which counts on {owing} {asset.code}"
            )
        theirs, ours = here.out.get(payee.name, {}), there.into.get(payer.name, {})
        for wire_id, (state, has_accept) in ours.items():
            out = theirs.get(wire_id)
            _demand(out is not None, f"I4: {payee.name} has a payment that {payer.name} never offered")
            if state == "credited":
                _demand(
                    out in ("committed", "completed") and has_accept,
                    f"I4: {payee.name} credited what is {out} at {payer.name}",
                )
        for wire_id, out in theirs.items():
            if out == "completed":
                state = ours.get(wire_id, ("unknown", False))[0]
                _demand(state == "credited", f"I4: completed at {payer.name}, {state} at {payee.name}")
            if out == "committed":
                has_accept = ours.get(wire_id, ("unknown", False))[1]
                _demand(has_accept, f"I4: {payer.name} committed what {payee.name} never accepted")
        newest_theirs, newest_known = here.ours.get(payee.name, frozenset()), there.newest.get(payer.name)
        # Whose key is pinned anew takes its last FENCE back, and gets it from a peer that had taken it.
        takes_back = payer.repins and here.stopped.get(payee.name) == "recovering"
        _demand(
            newest_known is None or newest_known in newest_theirs or takes_back,
            f"{payee.name} holds an object of {payer.name} that {payer.name} does not have",
        )
        # On the way back only where operators have pinned keys anew.
        stopped = there.stopped.get(payer.name)
        _demand(
            stopped is None or (payee.repins and stopped == "recovering"),
            f"{payee.name} has {stopped} its link with an honest {payer.name}",
        )

    def _found_at(self, process: Process) -> "_Found":
        if process.name not in self._found:
            self._found[process.name] = process.disk.look(_read)
        return self._found[process.name]

    def _undone(self, process: Process, cur: Cursor) -> None:
        """What has not ended: undecided payments, holds, gaps, objects that were never acknowledged.

        What waits for somebody hostile is left out, but for one's own people's money: nobody but its own homeserver
        decides how long that is held. Unless it does not know what it has decided, and who is hostile does not say.
        """
        found: list[str] = []
        cur.execute("SELECT peer FROM superapp_clearing_link WHERE state IN ('recovering', 'halted')")
        peers = [ServerName(str(row[0])) for row in cur.fetchall()]
        silent = {each for each in peers if process.forgetful and not self._processes[each].honest}
        cur.execute(
            "SELECT p.wire_id, p.state, l.peer FROM superapp_clearing_out AS p JOIN superapp_clearing_link AS l"
            " ON l.link_id = p.link_id WHERE p.state IN ('offered', 'asked')"
        )
        found += [f"{row[1]} payment {row[0]} to {row[2]}" for row in cur.fetchall() if row[2] not in silent]
        cur.execute(
            "SELECT h.hold_id, l.peer FROM superapp_ledger_hold AS h"
            " LEFT JOIN superapp_clearing_out AS p ON p.hold_id = h.hold_id"
            " LEFT JOIN superapp_clearing_link AS l ON l.link_id = p.link_id WHERE h.state = 'open'"
        )
        found += [f"hold {row[0]}" for row in cur.fetchall() if row[1] not in silent]
        cur.execute(
            "SELECT p.wire_id, p.state, l.peer FROM superapp_clearing_in AS p JOIN superapp_clearing_link AS l"
            " ON l.link_id = p.link_id WHERE p.state IN ('asked', 'accepted')"
        )
        found += [f"{row[1]} payment {row[0]} from {row[2]}" for row in cur.fetchall() if row[2] not in silent]
        waiting: list[tuple[str, object]] = []
        cur.execute(
            "SELECT l.peer, p.wire_id FROM superapp_clearing_out AS p JOIN superapp_clearing_link AS l"
            " ON l.link_id = p.link_id WHERE p.state = 'committed'"
        )
        waiting += [(str(row[0]), f"committed {row[1]}") for row in cur.fetchall()]
        cur.execute(
            "SELECT l.peer, p.wire_id FROM superapp_clearing_in AS p JOIN superapp_clearing_link AS l"
            " ON l.link_id = p.link_id WHERE p.state = 'doubt'"
        )
        waiting += [(str(row[0]), f"doubt {row[1]}") for row in cur.fetchall()]
        cur.execute(
            "SELECT l.peer, o.type, o.seq FROM superapp_clearing_outbox AS o JOIN superapp_clearing_link AS l"
            " ON l.link_id = o.link_id"
            # Each side states its books every day, for ever.
            " WHERE o.type <> 'STATEMENT'"
        )
        waiting += [(str(row[0]), f"unsent {row[1]} {row[2]}") for row in cur.fetchall()]
        cur.execute(
            "SELECT l.peer, s.state, s.way FROM superapp_clearing_settlement AS s JOIN superapp_clearing_link AS l"
            " ON l.link_id = s.link_id WHERE s.state IN ('proposed', 'agreed', 'sent', 'disputed')"
        )
        waiting += [(str(row[0]), f"{row[1]} settlement ({row[2]})") for row in cur.fetchall()]
        cur.execute("SELECT peer FROM superapp_clearing_link WHERE gap_due_ms IS NOT NULL OR tombstones <> 0")
        waiting += [(str(row[0]), "a gap or a tombstone") for row in cur.fetchall()]
        for peer, what in waiting:
            other = self._processes[ServerName(peer)]
            if other.honest:
                found.append(f"{what} with {peer}")
        found += self._unfinished_payments(cur)
        _demand(not found, f"{process.name} still has {found}")

    def _unfinished_payments(self, cur: Cursor) -> Iterable[str]:
        cur.execute(
            "SELECT payer_user_id, payee_user_id, payment_id, state FROM superapp_payment"
            " WHERE state IN ('held', 'awaiting_acceptance', 'committed')"
        )
        for payer, payee, payment_id, state in cur.fetchall():
            ends = [self._processes[ServerName(str(each).partition(":")[2])] for each in (payer, payee)]
            if all(each.honest for each in ends):
                yield f"{state} payment {payment_id} of {payer} to {payee}"


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise Violated(what)


def _has_committed(message_id: MessageId) -> Callable[[Cursor], bool]:
    def read(cur: Cursor) -> bool:
        cur.execute(
            "SELECT 1 FROM superapp_clearing_object WHERE sender = 'ours' AND message_id = ? LIMIT 1", (message_id,)
        )
        return cur.fetchone() is not None

    return read


def _paid_once(process: Process) -> Callable[[Cursor], None]:
    """No order takes its payer's money twice, under whatever name: what left somebody are orders of theirs."""

    def read(cur: Cursor) -> None:
        cur.execute(
            "SELECT a.owner, a.currency, e.amount_minor FROM superapp_ledger_entry AS e"
            " JOIN superapp_ledger_account AS a ON a.account_id = e.debit_id WHERE e.cause IN ('commit', 'payment')"
        )
        left = Counter((str(row[0]), str(row[1]), int(row[2] or 0)) for row in cur.fetchall())
        for (owner, currency, amount_minor), times in left.items():
            ordered = process.ordered[owner, currency, amount_minor]
            _demand(
                times <= ordered,
                f"{process.name} took {amount_minor} {currency} from {owner} {times} times, ordered {ordered} times",
            )

    return read


@dataclass(frozen=True, slots=True)
class _Found:
    """What one database says about each of its peers, read once for all pairs until it changes."""

    balances: Mapping[tuple[str, str, str], int]
    out: Mapping[str, Mapping[str, str]]
    """By peer and wire id the state of what goes there."""
    into: Mapping[str, Mapping[str, tuple[str, bool]]]
    """The same of what comes from there, and whether it was accepted."""
    ours: Mapping[str, frozenset[str]]
    newest: Mapping[str, str]
    """The newest object that came from a peer."""
    stopped: Mapping[str, str]
    """The states of links that do not go on."""

    def owed(self, peer: ServerName, asset: Asset) -> int:
        """What is due to a peer, with what was settled and that it has not heard of."""
        return sum(self.balances.get(key, 0) for key in (due_to(peer, asset.code), in_transit(peer, asset.code)))

    def owing(self, peer: ServerName, asset: Asset) -> int:
        """What is counted on from a peer."""
        return -self.balances.get(due_from(peer, asset.code), 0)


def _read(cur: Cursor) -> _Found:
    cur.execute(
        "SELECT owner, currency, kind, balance_minor FROM superapp_ledger_account"
        " WHERE kind IN ('due_to', 'due_from', 'in_transit')"
    )
    balances = {(str(row[0]), str(row[1]), str(row[2])): int(row[3] or 0) for row in cur.fetchall()}
    out: defaultdict[str, dict[str, str]] = defaultdict(dict)
    cur.execute(
        "SELECT l.peer, p.wire_id, p.state FROM superapp_clearing_out AS p JOIN superapp_clearing_link AS l"
        " ON l.link_id = p.link_id"
    )
    for peer, wire_id, state in cur.fetchall():
        out[str(peer)][str(wire_id)] = str(state)
    into: defaultdict[str, dict[str, tuple[str, bool]]] = defaultdict(dict)
    cur.execute(
        "SELECT l.peer, p.wire_id, p.state, EXISTS (SELECT 1 FROM superapp_clearing_object AS o"
        " WHERE o.link_id = p.link_id AND o.wire_id = p.wire_id AND o.sender = 'ours' AND o.type = 'ACCEPT')"
        " FROM superapp_clearing_in AS p JOIN superapp_clearing_link AS l ON l.link_id = p.link_id"
    )
    for peer, wire_id, state, accepted in cur.fetchall():
        into[str(peer)][str(wire_id)] = (str(state), bool(accepted))
    ours: defaultdict[str, set[str]] = defaultdict(set)
    newest: dict[str, str] = {}
    cur.execute(
        "SELECT l.peer, o.sender, o.message_id FROM superapp_clearing_object AS o JOIN superapp_clearing_link AS l"
        " ON l.link_id = o.link_id WHERE o.sender IN ('ours', 'theirs') ORDER BY o.epoch, o.seq"
    )
    for peer, sender, message_id in cur.fetchall():
        if sender == "ours":
            ours[str(peer)].add(str(message_id))
        else:
            newest[str(peer)] = str(message_id)
    cur.execute("SELECT peer, state FROM superapp_clearing_link WHERE state <> 'active'")
    stopped = {str(row[0]): str(row[1]) for row in cur.fetchall()}
    return _Found(balances, out, into, {peer: frozenset(ids) for peer, ids in ours.items()}, newest, stopped)

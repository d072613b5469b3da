"""The log of records in the database: every record a leaf, proofs that verify, checkpoints that never contradict."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from directory_books import ISSUER, KEY, NOW_MS, Directory, new_account

from super_app.db import Cursor, Transaction
from super_app.directory import log, log_store, service, store
from super_app.directory.log import Head
from super_app.directory.model import DAY_MS, Discover, Facts, Name
from super_app.errors import Refused
from super_app.ids import Acct, ServerName, localpart_of
from super_app.signing import digest, from_b64, generate_key
from super_app.transparency import checkpoint, tree
from super_app.transparency.tiles import WIDTH, Tile, read_bundle

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

HERE = ServerName("hs1.test")
ORIGIN = "hs1.test/superapp/directory"


@pytest.fixture
def directory(transaction: Transaction) -> Directory:
    return Directory(run=transaction)


def head(run: Transaction, covering: int | None = None, *, now_ms: int = NOW_MS, key: Any = KEY) -> Head:
    def work(cur: Cursor) -> Head:
        wanted = log.size(cur) if covering is None else covering
        return log.head(cur, HERE, key, covering=wanted, now_ms=now_ms)

    return run(work)


def entries(run: Transaction) -> list[bytes]:
    return run(lambda cur: log_store.entries(cur, 0, 1_000_000))


def is_proved(run: Transaction, record: Mapping[str, Any], now: Head) -> bool:
    """Whether a record is in the tree of a checkpoint, by what its server says of it."""

    def work(cur: Cursor) -> Mapping[str, Any] | None:
        leaf = log.logged(cur, localpart_of(record["handle"]), digest(dict(record)))
        return None if leaf is None else log.inclusion(cur, leaf, now)

    found = run(work)
    if found is None:
        return False
    leaf = tree.leaf_hash(log.entry_of(from_b64(found["salt"]), digest(dict(record))))
    proof = [from_b64(each) for each in found["inclusion"]]
    return tree.verify_inclusion(leaf, found["index"], now.size, proof, now.root)


class TestLeaves:
    def test_every_change_of_a_record_is_a_leaf_and_the_newest_is_proved(self, directory: Directory) -> None:
        bob = directory.register("bob")
        changes: list[str] = []

        def changed(record: Mapping[str, Any] | Refused | None) -> None:
            assert isinstance(record, Mapping)
            assert is_proved(directory.run, record, head(directory.run))
            assert digest(dict(record)) not in changes
            changes.append(digest(dict(record)))

        changed(directory.claim(bob, "bobby"))
        changed(directory.claim(bob, "bobby", discover=Discover.PUBLIC))
        changed(directory.claim(bob, "robert"))
        directory.facts = Facts(msk=None, services={"chat": True, "call": False, "pay": True})
        changed(directory.record_of(bob, "robert"))
        changed(directory.release(bob, "bobby"))
        directory.now_ms += 21 * DAY_MS
        changed(directory.record_of(bob, "robert"))
        directory.run(lambda cur: service.adopt(cur, [new_account("robert")], directory.now_ms))
        frozen = directory.record_of(bob, "robert")
        changed(frozen)
        assert frozen is not None
        assert frozen["status"] == "frozen"
        assert len(entries(directory.run)) >= len(changes)

    def test_asking_for_a_record_that_is_current_appends_nothing(self, directory: Directory) -> None:
        bob = directory.register("bob")
        first = directory.record_of(bob, "bob")
        assert directory.record_of(bob, "bob") == first
        assert len(entries(directory.run)) == 1

    def test_a_refused_claim_appends_nothing(self, directory: Directory) -> None:
        bob, carol = directory.register("bob"), directory.register("carol")
        directory.claim(bob, "bobby")
        before = entries(directory.run)
        assert isinstance(directory.put(carol, "bobby"), Refused)
        assert entries(directory.run) == before

    def test_a_leaf_tells_nothing_without_its_salt(self, directory: Directory) -> None:
        bob = directory.register("bob")
        record = directory.claim(bob, "bobby", discover=Discover.NONE)
        hashed = digest(dict(record))
        everything = b"".join(entries(directory.run))
        assert from_b64(hashed) not in everything
        assert log.entry_of(bytes(32), hashed) not in entries(directory.run)
        # The same record under another salt is another leaf, and salts of one seed differ.
        assert log.entry_of(b"\x01" * 32, hashed) != log.entry_of(b"\x02" * 32, hashed)
        logged = directory.run(lambda cur: log_store.logged(cur, ["bob", "bobby"]))
        assert len({leaf.salt for leaf in logged.values()}) == 2

    def test_the_salt_of_a_record_that_was_replaced_is_forgotten(self, directory: Directory) -> None:
        bob = directory.register("bob")
        before = directory.claim(bob, "bobby")
        directory.claim(bob, "bobby", discover=Discover.PUBLIC)
        assert not is_proved(directory.run, before, head(directory.run))

    def test_processes_that_issue_at_once_leave_no_gap(self, two_connections: tuple[Transaction, Transaction]) -> None:
        one, other = two_connections
        names = [f"person{number}" for number in range(40)]
        one(lambda cur: store.install(cur, NOW_MS))
        one(lambda cur: service.adopt(cur, [new_account(name) for name in names], NOW_MS))
        failures: list[BaseException] = []

        def issue(run: Transaction, mine: list[str]) -> None:
            try:
                for name in mine:
                    acct = new_account(name).acct
                    record = run(lambda cur, acct=acct, name=name: _issue(cur, acct, name))  # type: ignore[misc]
                    assert record is not None
                    head(run)
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=issue, args=(one, names[::2])),
            threading.Thread(target=issue, args=(other, names[1::2])),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        now = head(one)
        assert now.size == len(names)
        assert now.root == tree.root_of(tree.leaf_hash(entry) for entry in entries(one))


def _issue(cur: Cursor, acct: Acct, name: str) -> Mapping[str, Any] | None:
    facts = Facts(msk=None, services={"chat": True})
    return service.current_record(cur, ISSUER, acct, Name(name), facts=facts, now_ms=NOW_MS)


def grow(run: Transaction, count: int) -> None:
    def work(cur: Cursor) -> None:
        for _ in range(count):
            number = log.size(cur)
            log.append(cur, f"name{number}", digest({"number": number}), b"\x05" * 32)

    run(work)


class TestCheckpoints:
    def test_an_empty_log_has_one_that_says_so(self, transaction: Transaction) -> None:
        now = head(transaction)
        assert (now.size, now.root) == (0, tree.EMPTY_ROOT)
        note = checkpoint.read_note(now.note)
        assert note is not None
        assert checkpoint.is_signed_by(note, ORIGIN, bytes(KEY.verify_key))

    def test_it_is_signed_and_says_when_it_was_all(self, transaction: Transaction) -> None:
        grow(transaction, 3)
        now = head(transaction)
        note = checkpoint.read_note(now.note)
        assert note is not None
        read = checkpoint.read_checkpoint(note)
        assert read == checkpoint.Checkpoint(origin=ORIGIN, size=3, root=now.root)
        cosigned = checkpoint.cosignature_of(note, ORIGIN, bytes(KEY.verify_key))
        assert cosigned == checkpoint.Cosignature(name=ORIGIN, time_s=NOW_MS // 1000)

    def test_leaves_that_a_crash_left_without_a_checkpoint_are_in_the_next(self, transaction: Transaction) -> None:
        grow(transaction, 5)
        first = head(transaction)
        grow(transaction, 300)
        # Here the process died. The next one finds the leaves and the older checkpoint.
        assert head(transaction, 0).size == first.size
        now = head(transaction)
        assert now.size == 305
        assert now.root == tree.root_of(tree.leaf_hash(entry) for entry in entries(transaction))
        proof = transaction(lambda cur: log.consistency(cur, 5, now))
        hashes = [from_b64(each) for each in proof["consistency"]]
        assert from_b64(proof["from_root"]) == first.root
        assert tree.verify_consistency(5, first.root, 305, now.root, hashes)

    def test_its_time_is_of_now_within_a_minute_and_never_goes_back(self, transaction: Transaction) -> None:
        def time_s(now_ms: int) -> int:
            note = checkpoint.read_note(head(transaction, now_ms=now_ms).note)
            assert note is not None
            cosigned = checkpoint.cosignature_of(note, ORIGIN, bytes(KEY.verify_key))
            assert cosigned is not None
            return cosigned.time_s

        assert time_s(NOW_MS) == NOW_MS // 1000
        assert time_s(NOW_MS + 59_000) == NOW_MS // 1000
        assert time_s(NOW_MS + 60_000) == NOW_MS // 1000 + 60
        grow(transaction, 1)
        assert time_s(NOW_MS - DAY_MS) == NOW_MS // 1000 + 60

    def test_another_key_signs_anew_what_is_there(self, transaction: Transaction) -> None:
        grow(transaction, 2)
        before = head(transaction)
        other = generate_key(b"\x09" * 32)
        after = head(transaction, key=other)
        assert (after.size, after.root) == (before.size, before.root)
        note = checkpoint.read_note(after.note)
        assert note is not None
        assert checkpoint.is_signed_by(note, ORIGIN, bytes(other.verify_key))

    def test_every_root_that_the_log_ever_had_is_ours_and_no_other(self, transaction: Transaction) -> None:
        grow(transaction, 7)
        roots = [tree.root_of(tree.leaf_hash(entry) for entry in entries(transaction)[:size]) for size in range(8)]
        head(transaction)
        for size in range(1, 8):
            assert transaction(lambda cur, size=size: log.is_ours(cur, size, roots[size]))  # type: ignore[misc]
            assert not transaction(lambda cur, size=size: log.is_ours(cur, size, roots[size - 1]))  # type: ignore[misc]
        assert not transaction(lambda cur: log.is_ours(cur, 8, roots[7]))


class TestFiles:
    def test_tiles_and_entries_make_up_the_tree_and_never_change(self, transaction: Transaction) -> None:
        grow(transaction, 10)
        head(transaction)
        partial = transaction(lambda cur: log.tile(cur, Tile(0, 0, 10)))
        grow(transaction, 300)
        now = head(transaction)
        assert transaction(lambda cur: log.tile(cur, Tile(0, 0, 10))) == partial
        bundles = [
            transaction(lambda cur, tile=tile: log.entry_bundle(cur, tile))  # type: ignore[misc]
            for tile in (Tile(0, 0), Tile(0, 1, 54))
        ]
        read = [entry for bundle in bundles for entry in read_bundle(bundle or b"") or []]
        assert tree.root_of(tree.leaf_hash(entry) for entry in read) == now.root
        full = transaction(lambda cur: log.tile(cur, Tile(0, 0)))
        assert full is not None
        assert len(full) == WIDTH * tree.HASH_BYTES
        above = transaction(lambda cur: log.tile(cur, Tile(1, 0, 1)))
        assert above == tree.root_of(tree.leaf_hash(entry) for entry in read[:WIDTH])

    def test_what_the_tree_has_not_reached_is_not_there(self, transaction: Transaction) -> None:
        grow(transaction, 10)
        head(transaction)
        grow(transaction, 10)
        for tile in (Tile(0, 0, 11), Tile(0, 1, 1), Tile(1, 0, 1)):
            assert transaction(lambda cur, tile=tile: log.tile(cur, tile)) is None  # type: ignore[misc]
        assert transaction(lambda cur: log.entry_bundle(cur, Tile(0, 0, 11))) is None


def test_a_page_of_records_is_proved_at_once(directory: Directory) -> None:
    made = [directory.register(f"person{number}", Discover.PUBLIC) for number in range(30)]
    records = [directory.record_of(acct, f"person{number}") for number, acct in enumerate(made)]
    chosen = [each for each in records[::3] if each is not None]
    now = head(directory.run)

    def work(cur: Cursor) -> tuple[list[log_store.Logged], list[str]]:
        names = [localpart_of(each["handle"]) for each in chosen]
        found = log_store.logged(cur, names)
        leaves = [found[name] for name in names]
        return leaves, log.batch(cur, leaves, now)

    leaves, proof = directory.run(work)
    hashes = {
        leaf.number: tree.leaf_hash(log.entry_of(from_b64(leaf.salt), digest(dict(record))))
        for leaf, record in zip(leaves, chosen, strict=True)
    }
    assert tree.verify_batch(hashes, now.size, [from_b64(each) for each in proof], now.root)
    hashes[leaves[0].number] = tree.leaf_hash(b"another")
    assert not tree.verify_batch(hashes, now.size, [from_b64(each) for each in proof], now.root)

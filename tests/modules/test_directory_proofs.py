"""The log of records in the homeserver: proofs in answers, files of the tree, what other homeservers see of it."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.api.errors import SynapseError
from test_directory_module import FEED, HS1, HS2, RESOLVE, Pair
from test_directory_module import _directory as directory_of
from twisted.web.test.requesthelper import DummyRequest

from super_app.directory import log
from super_app.ids import ServerName
from super_app.names import LOG_PREFIX
from super_app.signing import digest, from_b64
from super_app.transparency import checkpoint, tree
from super_app.transparency.tiles import read_bundle


@pytest.fixture
def pair() -> Pair:
    return Pair()


def asked(pair: Pair, name: Any, **arguments: str) -> dict[str, Any]:
    """What the second homeserver answers the first."""
    answer: dict[str, Any] = dict(pair.hs1.result(pair.hs1.private.query(ServerName(HS2), name, arguments, 1_000)))
    return answer


def file(homeserver: FakeHomeserver, path: str, address: str = "192.0.2.7") -> DummyRequest:
    """A file of the log, over its web resource."""
    resource = homeserver.api.web_resources[LOG_PREFIX]
    request: Any = DummyRequest([])
    request.get_client_ip_if_available = lambda: address
    request.path = f"{LOG_PREFIX}/{path}".encode()
    homeserver.result(resource._async_render_GET(request))
    found: DummyRequest = request
    return found


def content_of(request: DummyRequest) -> bytes:
    return b"".join(request.written)


def status_of(request: Any) -> int:
    status: int = request.responseCode
    return status


def header(request: DummyRequest, name: bytes) -> bytes:
    return b"".join(request.responseHeaders.getRawHeaders(name) or [])


def read(note: str) -> checkpoint.Checkpoint:
    found = checkpoint.read_note(note)
    assert found is not None
    read = checkpoint.read_checkpoint(found)
    assert read is not None
    return read


class TestProofs:
    def test_a_record_comes_with_the_proof_that_it_is_in_the_log(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "exact"})
        found = asked(pair, RESOLVE, handle="@bobby:hs2.test")
        proof, now = found["log"], read(found["log"]["checkpoint"])
        leaf = tree.leaf_hash(log.entry_of(from_b64(proof["salt"]), digest(found["answer"])))
        hashes = [from_b64(each) for each in proof["inclusion"]]
        assert tree.verify_inclusion(leaf, proof["index"], now.size, hashes, now.root)

    def test_nobody_has_no_proof_and_the_same_answer_as_somebody_who_hides(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "none"})
        hidden = asked(pair, RESOLVE, handle="@bobby:hs2.test", **{"from": "2"})
        absent = asked(pair, RESOLVE, handle="@bibby:hs2.test", **{"from": "2"})
        assert set(hidden) == set(absent) == {"answer", "certificate"}
        assert set(hidden["answer"]) == set(absent["answer"])

    def test_a_page_of_the_feed_comes_with_one_proof_for_its_records(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/carol", pair.carol, {"discover": "none"})
        pair.advance(1)
        page = asked(pair, FEED, since="0")
        proof, now = page["log"], read(page["log"]["checkpoint"])
        kinds = [entry["type"].rpartition(".")[2] for entry in page["entries"]]
        assert kinds == ["record", "withdrawal"]
        assert proof["leaves"][1] is None
        hashes = {
            leaf["index"]: tree.leaf_hash(log.entry_of(from_b64(leaf["salt"]), digest(entry)))
            for leaf, entry in zip(proof["leaves"], page["entries"], strict=True)
            if leaf is not None
        }
        assert tree.verify_batch(hashes, now.size, [from_b64(each) for each in proof["inclusion"]], now.root)

    def test_an_answer_proves_that_the_log_only_grew(self, pair: Pair) -> None:
        before = read(asked(pair, RESOLVE, handle="@bob:hs2.test")["log"]["checkpoint"])
        for number in range(5):
            pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "exact" if number % 2 else "link"})
        found = asked(pair, RESOLVE, handle="@bob:hs2.test", **{"from": str(before.size)})["log"]
        now = read(found["checkpoint"])
        assert (found["from"], from_b64(found["from_root"])) == (before.size, before.root)
        hashes = [from_b64(each) for each in found["consistency"]]
        assert tree.verify_consistency(before.size, before.root, now.size, now.root, hashes)

    def test_a_worker_and_the_main_process_write_one_log(self) -> None:
        homeserver = FakeHomeserver(config={"features": {"payments": False}})
        bob, carol = homeserver.register("bob"), homeserver.register("carol")
        homeserver.start()
        worker = homeserver.worker("worker1")
        worker.start()
        for discover in ("exact", "link", "none"):
            homeserver.call("PUT", "handles/bobby", bob, {"discover": discover})
            worker.call("PUT", "handles/carolyn", carol, {"discover": discover})
        notes = [content_of(file(each, "checkpoint")).decode() for each in (homeserver, worker)]
        assert notes[0] == notes[1]
        assert read(notes[0]).size >= 6

    def test_a_restart_between_a_record_and_its_checkpoint_loses_nothing(self, pair: Pair) -> None:
        record = pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.restart()
        found = asked(pair, RESOLVE, handle="@bobby:hs2.test")
        assert found["answer"] == record
        assert read(found["log"]["checkpoint"]).size == found["log"]["index"] + 1


class TestFiles:
    def test_the_tree_can_be_read_and_checked_from_its_files(self, pair: Pair) -> None:
        noted = file(pair.hs2, "checkpoint")
        now = read(content_of(noted).decode())
        assert header(noted, b"Cache-Control") == b"no-cache"
        assert now.origin == "hs2.test/superapp/directory"
        bundle = file(pair.hs2, f"tile/entries/000.p/{now.size}")
        found = read_bundle(content_of(bundle))
        assert found is not None
        assert tree.root_of(tree.leaf_hash(entry) for entry in found) == now.root
        tile = file(pair.hs2, f"tile/0/000.p/{now.size}")
        assert content_of(tile) == b"".join(tree.leaf_hash(entry) for entry in found)
        for each in (bundle, tile):
            assert header(each, b"Cache-Control") == b"public, max-age=31536000, immutable"
            assert header(each, b"Content-Type") == b"application/octet-stream"

    def test_the_key_of_the_log_is_beside_it(self, pair: Pair) -> None:
        name, key_id, key = content_of(file(pair.hs2, "key")).decode().strip().split("+", 2)
        note = checkpoint.read_note(content_of(file(pair.hs2, "checkpoint")).decode())
        assert note is not None
        assert name == "hs2.test/superapp/directory"
        assert note.signatures[0].value[:4].hex() == key_id
        assert key

    @pytest.mark.parametrize(
        "path", ["", "tile/0/000", "tile/0/001.p/1", "tile/9/000.p/1", "tile/0/000.p/0", "../v1/wallet", "checkpoint/x"]
    )
    def test_what_is_no_file_of_the_log_is_not_found(self, pair: Pair, path: str) -> None:
        found = file(pair.hs2, path)
        assert status_of(found) == 404
        assert header(found, b"Cache-Control") == b"no-cache"

    def test_before_the_tables_exist_it_asks_to_come_back(self, pair: Pair) -> None:
        directory_of(pair.hs2)._own._signer = None
        assert status_of(file(pair.hs2, "checkpoint")) == 503

    def test_no_name_is_in_it(self, pair: Pair) -> None:
        record = pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "none"})
        everything = b"".join(content_of(file(pair.hs2, path)) for path in ("checkpoint", "tile/entries/000.p/3"))
        assert b"bob" not in everything
        assert from_b64(digest(record)) not in everything


def test_one_address_has_so_many_files_of_the_log_a_minute() -> None:
    homeserver = FakeHomeserver(HS1, config={"requests": {"public": 2}})
    homeserver.start()
    for _ in range(2):
        file(homeserver, "checkpoint")
    with pytest.raises(SynapseError) as refused:
        file(homeserver, "checkpoint")
    assert refused.value.errcode == "ORG.SUPERAPP.TOO_MANY_REQUESTS"
    file(homeserver, "checkpoint", "192.0.2.8")

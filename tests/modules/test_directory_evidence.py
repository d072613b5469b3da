"""Servers that lie about their log: found out, proved to strangers, frozen, and lifted; witnesses; keys that follow."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
import test_payments_pair
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_directory_module import FEED, HS1, HS2, RESOLVE, Pair, reason_of, refusal
from test_directory_module import _config as config_of
from test_directory_module import _directory as directory_of
from test_directory_proofs import content_of, file, read
from twisted.internet import defer

from super_app.directory import heads, log
from super_app.directory.heads import Kind, verify_evidence
from super_app.errors import Reason
from super_app.ids import ServerName
from super_app.names import FederationQuery
from super_app.signing import from_b64, generate_key, public_b64, signed
from super_app.transparency import checkpoint
from synapse_super_app.people import Person

HEAD, PEERS = FederationQuery.DIRECTORY_HEAD, FederationQuery.DIRECTORY_PEERS
HS3 = "hs3.test"


def twin_of(homeserver: FakeHomeserver, *people: str) -> FakeHomeserver:
    """Another homeserver with its name and keys, and a history of its own."""
    twin = FakeHomeserver(homeserver.server_name, config=homeserver._config, clock=homeserver.clock)
    twin.matrix_key = homeserver.matrix_key
    for path in homeserver.folder.glob("*directory*"):
        shutil.copy(path, twin.folder)
    for person in people:
        twin.register(person)
    twin.reachable = dict(homeserver.reachable)
    twin.start()
    twin.settle()
    return twin


def known_to(homeserver: FakeHomeserver, server: str = HS2) -> heads.SeenHead:
    found = homeserver.result(directory_of(homeserver)._heads.known(ServerName(server)))
    assert found is not None
    return found


def admin_of(homeserver: FakeHomeserver) -> str:
    return homeserver.register("operator", admin=True)


def evidence_of(homeserver: FakeHomeserver) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = homeserver.call("GET", "admin/directory/evidence", admin_of(homeserver))["evidence"]
    return found


def grow(homeserver: FakeHomeserver, user_id: str, times: int) -> None:
    for number in range(times):
        homeserver.call("PUT", "handles/carol", user_id, {"discover": "exact" if number % 2 else "link"})
    homeserver.result(directory_of(homeserver)._log.newest())


@pytest.fixture
def pair() -> Pair:
    return Pair()


class TestEquivocation:
    @pytest.mark.parametrize(
        ("people", "kind"),
        [(("bob", "dora"), Kind.SPLIT), (("bob", "dora", "emil"), Kind.FORK), (("bob",), Kind.ROLLBACK)],
    )
    def test_another_history_is_proved_and_freezes_the_server(
        self, pair: Pair, people: tuple[str, ...], kind: Kind, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert known_to(pair.hs1).size == 2
        pair.advance(61)
        pair.hs1.reachable[HS2] = twin_of(pair.hs2, *people)
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.SERVER_FROZEN

        (found,) = evidence_of(pair.hs1)
        assert (found["server"], found["kind"], found["found"]) == (HS2, kind, pair.hs1.now_ms())
        assert "The homeserver hs2.test has equivocated" in caplog.text
        # Who is handed the proof checks it alone, with the Matrix keys of that server.
        proof = json.loads(json.dumps(found["evidence"]))
        verified = verify_evidence(proof)
        assert verified is not None
        assert verified.kind is kind
        for certificate in proof["certificates"]:
            assert pair.hs1.result(pair.hs1.private.is_signed_by(ServerName(HS2), certificate, 0))
        for field in ("first", "second"):
            assert verify_evidence({**proof, field: proof[field].replace("\n2\n", "\n7\n")}) is None or (
                "\n2\n" not in proof[field]
            )
        assert verify_evidence({**proof, "second": proof["first"]}) is None
        assert verify_evidence({**proof, "server": HS1}) is None

    def test_a_frozen_server_has_nobody_who_is_found_or_paid_until_an_admin_lifts_it(self, pair: Pair) -> None:
        pair.advance(61)
        pair.hs1.reachable[HS2] = twin_of(pair.hs2, "bob", "dora")
        pair.advance(7)
        for who in ("@bob:hs2.test", "@dora:hs2.test"):
            assert reason_of(pair.resolve(who)) is Reason.SERVER_FROZEN
        assert pair.found_by_alice("bob") == []
        assert refusal(pair.hs1, "GET", "handles/@bob:hs2.test", pair.alice) == (403, "SERVER_FROZEN")
        assert refusal(pair.hs1, "PUT", "contacts/@bob:hs2.test", pair.alice) == (403, "SERVER_FROZEN")
        pair.hs1.restart()
        assert reason_of(pair.resolve("@bob:hs2.test")) is Reason.SERVER_FROZEN

        admin = admin_of(pair.hs1)
        assert pair.hs1.call("DELETE", f"admin/directory/evidence/{HS2}", admin) == {"server": HS2}
        assert refusal(pair.hs1, "DELETE", f"admin/directory/evidence/{HS2}", admin) == (404, "UNKNOWN_PEER")
        pair.advance(400)
        assert pair.found_by_alice("dora") == ["@dora:hs2.test"]
        assert isinstance(pair.resolve("@bob:hs2.test"), Person)
        (found,) = evidence_of(pair.hs1)
        assert found["lifted_by"] == admin

    def test_a_payment_to_a_frozen_server_is_refused_before_anything_moves(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(test_payments_pair.CONFIG["features"], "directory", True)
        pair = test_payments_pair.Pair()
        assert pair.pay()["state"] == "completed"
        pair.advance(61)
        pair.hs1.reachable[HS2] = twin_of(pair.hs2, "bob", "dora", "emil")
        before = pair.hs1.call("GET", "wallet", test_payments_pair.ALICE)
        with pytest.raises(SynapseError) as refused:
            pair.pay(payment_id="0" * 32)
        assert (refused.value.code, refused.value.errcode) == (403, "ORG.SUPERAPP.SERVER_FROZEN")
        assert "until the operator of this homeserver has looked into it" in refused.value.msg
        assert pair.hs1.call("GET", "wallet", test_payments_pair.ALICE) == before

    def test_another_process_knows_it_too(self, pair: Pair) -> None:
        worker = pair.hs1.worker("worker1")
        worker.start()
        pair.advance(61)
        pair.hs1.reachable[HS2] = twin_of(pair.hs2, "bob", "dora")
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.SERVER_FROZEN
        elsewhere = directory_of(worker).people.resolve("@bob:hs2.test", asker=pair.alice, max_age_ms=600_000)
        assert reason_of(worker.result(elsewhere)) is Reason.SERVER_FROZEN


class TestReplays:
    def test_an_old_answer_that_is_shown_again_is_refused_and_proves_nothing(self, pair: Pair) -> None:
        honest = pair.hs2.private.queries[RESOLVE]
        old = pair.hs2.result(honest({"handle": "@bob:hs2.test", "origin": HS1}))
        grow(pair.hs2, pair.carol, 3)
        pair.advance(7)

        async def replayed(_: Mapping[str, Any]) -> dict[str, Any]:
            return dict(old)

        pair.hs2.private.queries[RESOLVE] = replayed
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD
        assert evidence_of(pair.hs1) == []
        pair.hs2.private.queries[RESOLVE] = honest
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)

    def test_a_server_that_gives_an_old_checkpoint_as_its_log_of_now_is_proved_to_do_so(self, pair: Pair) -> None:
        honest = {name: pair.hs2.private.queries[name] for name in (RESOLVE, FEED, HEAD)}
        old = pair.hs2.result(honest[RESOLVE]({"handle": "@bob:hs2.test", "origin": HS1}))
        grow(pair.hs2, pair.carol, 3)
        pair.advance(7)
        assert known_to(pair.hs1).size > read(old["log"]["checkpoint"]).size

        def lie(change: str) -> Any:
            async def lying(arguments: Mapping[str, Any]) -> dict[str, Any]:
                answer = dict(await honest[HEAD](arguments))
                head = {**answer["head"], "checkpoint": old["log"]["checkpoint"], "growths": []}
                return {**answer, "head": signed(head, pair.key_of_hs2)} if change == "head" else dict(old)

            return lying

        pair.hs2.private.queries[RESOLVE] = lie("resolve")
        pair.hs2.private.queries[HEAD] = lie("head")
        pair.hs2.private.queries[FEED] = lie("feed")
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD
        # It could be a slow answer; ten minutes later it cannot.
        assert evidence_of(pair.hs1) == []
        pair.advance(700)
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) in (Reason.SERVER_FROZEN, Reason.BAD_RECORD)
        pair.advance(61)
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.SERVER_FROZEN
        (found,) = evidence_of(pair.hs1)
        assert found["kind"] == "replay"
        assert verify_evidence(found["evidence"]) is not None
        assert verify_evidence({**found["evidence"], "kind": "split"}) is None

    def test_a_server_whose_log_stands_still_is_believed(self, pair: Pair) -> None:
        for _ in range(4):
            pair.advance(600)
            assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)
        assert evidence_of(pair.hs1) == []

    @pytest.mark.parametrize("change", ["none", "proof", "inclusion", "origin", "size", "unsigned"])
    def test_an_answer_without_a_proof_that_holds_is_refused_and_freezes_nobody(self, change: str) -> None:
        pair = Pair(second={"existing_users": {"discover": "exact"}})
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)
        grow(pair.hs2, pair.carol, 3)
        other = generate_key(b"\x03" * 32)

        def dishonest(answer: dict[str, Any]) -> dict[str, Any]:
            proof = dict(answer["log"])
            now = read(proof["checkpoint"])
            match change:
                case "none":
                    return {name: value for name, value in answer.items() if name != "log"}
                case "proof":
                    proof["consistency"] = proof["consistency"][:-1]
                case "inclusion":
                    proof["salt"] = "A" * 43
                case "origin":
                    text = checkpoint.Checkpoint(origin=log.origin_of(ServerName(HS3)), size=9, root=now.root).text()
                    proof["checkpoint"] = self._note(text, HS3, pair.key_of_hs2, pair)
                case "size":
                    proof["checkpoint"] = proof["checkpoint"].replace(f"\n{now.size}\n", f"\n{now.size + 1}\n")
                case _:
                    proof["checkpoint"] = self._note(now.text(), HS2, other, pair)
            return {**answer, "log": proof}

        pair.intercept(RESOLVE, dishonest)
        pair.hs2.private.queries.pop(FEED)
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD
        assert evidence_of(pair.hs1) == []

    def _note(self, text: str, server: str, key: Any, pair: Pair) -> str:
        name = log.origin_of(ServerName(server))
        signatures = (
            checkpoint.sign(text, name, key),
            checkpoint.cosign(text, name, key, pair.hs1.now_ms() // 1000),
        )
        return checkpoint.Note(text=text, signatures=signatures).dump()


class TestWitnesses:
    def test_peers_cosign_each_others_checkpoints(self, pair: Pair) -> None:
        pair.advance(130)
        note = checkpoint.read_note(content_of(file(pair.hs2, "checkpoint")).decode())
        assert note is not None
        witness = directory_of(pair.hs1)._own.signer.key
        name = log.origin_of(ServerName(HS1))
        assert checkpoint.cosignature_of(note, name, bytes(witness.verify_key)) is not None
        assert [each.name for each in note.signatures].count(name) == 1

    def test_two_servers_that_were_shown_two_logs_find_out_by_comparing(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        third = FakeHomeserver(HS3, config=config_of(HS1, {"peers": []}), clock=pair.hs1.clock)
        carla = third.register("carla")
        third.start()
        third.settle()
        third.reachable[HS1] = pair.hs1
        pair.hs1.reachable[HS3] = third
        pair.hs2.reachable[HS3] = third
        third.reachable[HS2] = twin_of(pair.hs2, "bob", "dora")
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)
        asked = directory_of(third).people.resolve("@bob:hs2.test", asker=carla, max_age_ms=-1)
        assert isinstance(third.result(asked), Person)
        # Both were believed. Now the two talk to each other about somebody else, and so meet.
        pair.resolve("@carla:hs3.test", max_age_ms=-1)
        pair.hs1.result(directory_of(pair.hs1)._gossip.round())
        (found,) = evidence_of(pair.hs1)
        assert (found["server"], found["kind"]) == (HS2, "split")
        assert verify_evidence(found["evidence"]) is not None
        assert reason_of(pair.resolve("@bob:hs2.test")) is Reason.SERVER_FROZEN

    @pytest.mark.parametrize(("sizes", "kind"), [((2, 4), "fork"), ((4, 2), "fork")])
    def test_heads_of_two_sizes_are_compared_through_the_server_itself(self, sizes: tuple[int, int], kind: str) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        twin = twin_of(pair.hs2, "bob", "dora")
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)
        seen, other = sizes
        grow(pair.hs2, pair.carol, seen - 2)
        pair.hs1.result(directory_of(pair.hs1)._peers.advance(ServerName(HS2)))
        assert known_to(pair.hs1).size == seen
        for number in range(other - 2):
            twin.call("PUT", "handles/dora", "@dora:hs2.test", {"discover": "exact" if number % 2 else "link"})
        told = content_of(file(twin, "checkpoint")).decode()
        assert read(told).size == other
        pair.advance(2)
        grow(pair.hs2, pair.carol, 3)
        refused = pair.hs1.result(directory_of(pair.hs1)._gossip.compare(ServerName(HS2), told))
        assert reason_of(refused) is Reason.SERVER_FROZEN
        (found,) = evidence_of(pair.hs1)
        assert found["kind"] == kind
        assert verify_evidence(found["evidence"]) is not None

    def test_honest_servers_that_grow_are_never_accused(self) -> None:
        pair = Pair()
        third = FakeHomeserver(HS3, config=config_of(HS1, {"peers": [HS1, HS2]}), clock=pair.hs1.clock)
        third.register("carla")
        third.reachable.update({HS1: pair.hs1, HS2: pair.hs2})
        pair.hs1.reachable[HS3] = pair.hs2.reachable[HS3] = third
        third.start()
        for number in range(12):
            grow(pair.hs2, pair.carol, number % 4)
            pair.advance(25)
        for homeserver in (pair.hs1, pair.hs2, third):
            assert evidence_of(homeserver) == []
        assert known_to(third).size == known_to(pair.hs1).size

    def test_a_witness_that_has_seen_more_of_our_log_tells_us_that_our_database_is_old(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        grow(pair.hs2, pair.carol, 4)
        pair.resolve("@bob:hs2.test", max_age_ms=-1)
        restored = twin_of(pair.hs2, "bob")
        restored.result(directory_of(restored).people.resolve(pair.alice, asker=pair.bob, max_age_ms=-1))
        restored.result(directory_of(restored)._gossip.listen(ServerName(HS1)))
        assert "this database does not have" in caplog.text


class TestSlowAndHostilePeers:
    def test_a_peer_that_never_answers_keeps_nobody_else_waiting(self, pair: Pair) -> None:
        third = FakeHomeserver(HS3, config=config_of(HS1, None), clock=pair.hs1.clock)
        third.register("carla")
        third.start()
        pair.hs1.reachable[HS3] = third

        async def silent(_: Mapping[str, Any]) -> dict[str, Any]:
            await defer.Deferred()
            raise AssertionError

        third.private.queries[FEED] = silent
        directory_of(pair.hs1)._reader.heard(ServerName(HS3))
        pair.advance(60)
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.advance(7)
        assert pair.found_by_alice("bobby") == ["@bobby:hs2.test"]

    def test_a_page_of_more_entries_than_a_page_has_is_refused(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        pair.intercept(FEED, lambda page: {**page, "entries": page["entries"] * 300})
        directory_of(pair.hs1)._reader.heard(ServerName(HS2))
        pair.advance(7)
        assert pair.found_by_alice("bob") == []

    def test_a_feed_without_end_is_read_some_pages_at_a_time(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        pages = 0

        def endless(page: dict[str, Any]) -> dict[str, Any]:
            nonlocal pages
            pages += 1
            empty = {**page["log"], "leaves": [], "inclusion": []}
            return {**page, "entries": [], "next": pages, "head": pages + 1_000_000, "log": empty}

        pair.intercept(FEED, endless)
        directory_of(pair.hs1)._reader.heard(ServerName(HS2))
        pair.advance(50)
        assert 0 < pages <= 40
        assert pair.found_by_alice("bob") == []


class TestKeys:
    def test_a_key_that_the_old_one_signs_is_followed_without_a_word_of_the_operators(self, pair: Pair) -> None:
        before = pair.hs1.call("GET", f"directory/keys/{HS2}", pair.alice)
        rotated = pair.hs2.call("POST", "admin/directory/rotate-key", admin_of(pair.hs2))
        assert rotated["public_key"] != before["public_key"]
        pair.advance(61)
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)
        after = pair.hs1.call("GET", f"directory/keys/{HS2}", pair.alice)
        assert after["public_key"] == rotated["public_key"]
        assert pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)["key_id"] == rotated["key_id"]
        assert known_to(pair.hs1).key.public_key == rotated["public_key"]
        assert evidence_of(pair.hs1) == []

    def test_who_was_away_follows_through_several_rotations(self, pair: Pair) -> None:
        pair.disconnect()
        admin = admin_of(pair.hs2)
        rotated = [pair.hs2.call("POST", "admin/directory/rotate-key", admin) for _ in range(3)][-1]
        pair.connect()
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)
        assert pair.hs1.call("GET", f"directory/keys/{HS2}", pair.alice)["public_key"] == rotated["public_key"]

    def test_a_worker_signs_with_the_new_key_at_once(self, pair: Pair) -> None:
        worker = pair.hs2.worker("worker1")
        worker.start()
        rotated = pair.hs2.call("POST", "admin/directory/rotate-key", admin_of(pair.hs2))
        assert worker.call("PUT", "handles/bobby", pair.bob)["key_id"] == rotated["key_id"]
        answer = worker.result(worker.private.queries[HEAD]({"origin": HS1}))
        assert answer["rotations"][-1]["public_key"] == rotated["public_key"]

    def test_a_crash_between_the_new_key_and_the_old_ones_word_is_made_good_at_the_next_start(self, pair: Pair) -> None:
        directory_of(pair.hs2)._own.signer.replace()
        pair.hs2.restart()
        pair.advance(7)
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)

    def test_a_name_that_was_registered_again_with_new_keys_is_refused(self, pair: Pair) -> None:
        new = FakeHomeserver(HS2, config=config_of(HS1, None), clock=pair.hs1.clock)
        new.register("bob")
        new.reachable[HS1] = pair.hs1
        new.start()
        pair.hs1.reachable[HS2] = new
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD
        # Not even with rotations that its own key signs.
        stranger = generate_key(b"\x04" * 32)
        key = directory_of(new)._own.signer.key
        honest = new.private.queries[RESOLVE]

        async def forged(arguments: Mapping[str, Any]) -> dict[str, Any]:
            chain = {"type": "org.superapp.directory.rotation", "v": 1, "server": HS2, "public_key": public_b64(key)}
            return {**await honest(arguments), "rotations": [signed({**chain, "issued": 1}, stranger)]}

        new.private.queries[RESOLVE] = forged
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD
        assert evidence_of(pair.hs1) == []

    def test_a_rotation_to_a_key_that_the_matrix_key_did_not_certify_is_refused(self, pair: Pair) -> None:
        stolen, thief = pair.key_of_hs2, generate_key(b"\x05" * 32)

        def forged(answer: dict[str, Any]) -> dict[str, Any]:
            chain = {"type": "org.superapp.directory.rotation", "v": 1, "server": HS2, "public_key": public_b64(thief)}
            certificate = {**answer["certificate"], "public_key": public_b64(thief)}
            return {**answer, "certificate": certificate, "rotations": [signed({**chain, "issued": 1}, stolen)]}

        pair.intercept(RESOLVE, forged)
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD


class TestServerRecord:
    def test_a_server_says_signed_what_it_runs(self, pair: Pair) -> None:
        found = pair.hs1.call("GET", f"directory/servers/{HS2}", pair.alice)
        own = pair.hs2.call("GET", f"directory/servers/{HS2}", pair.bob)
        assert found == own
        assert found["features"] == {"directory": True, "calls": False, "payments": False, "web": False}
        assert found["directory_key"] == pair.hs1.call("GET", f"directory/keys/{HS2}", pair.alice)["public_key"]
        assert json.loads(content_of(file(pair.hs2, "server.json"))) == own
        assert refusal(pair.hs1, "GET", f"directory/servers/{HS3}", pair.alice) == (404, "UNKNOWN_PEER")

    def test_payments_tell_their_key_assets_and_links(self) -> None:
        homeserver = FakeHomeserver()
        alice = homeserver.register("alice")
        homeserver.start()
        found = homeserver.call("GET", "directory/servers/hs1.test", alice)["payments"]
        assert (found["mode"], found["assets"], found["fees"], found["links"]) == (
            "credits",
            [{"code": "PTS", "scale": 0}],
            [],
            [],
        )
        assert len(from_b64(found["key"]["public_key"])) == 32

    def test_it_is_issued_anew_when_it_says_something_else_and_is_in_the_log(self, pair: Pair) -> None:
        first = pair.hs2.call("GET", f"directory/servers/{HS2}", pair.bob)
        assert pair.hs2.call("GET", f"directory/servers/{HS2}", pair.bob) == first
        before = read(content_of(file(pair.hs2, "checkpoint")).decode()).size
        pair.hs2.call("POST", "admin/directory/rotate-key", admin_of(pair.hs2))
        after = pair.hs2.call("GET", f"directory/servers/{HS2}", pair.bob)
        assert after["seq"] == first["seq"] + 1
        assert read(content_of(file(pair.hs2, "checkpoint")).decode()).size > before

    def test_a_forged_one_is_refused(self, pair: Pair) -> None:
        pair.intercept(HEAD, lambda answer: {**answer, "record": {**answer["record"], "features": {}}})
        assert refusal(pair.hs1, "GET", f"directory/servers/{HS2}", pair.alice) == (502, "BAD_RECORD")

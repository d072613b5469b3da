"""docs/clearing-vectors.json: what docs/clearing.md says, as examples that any implementation can check itself against.

They are made by the real code (``python tests/unit/test_clearing_vectors.py`` writes them anew) and checked twice here:
against the code, and by a reader that knows only the document, a JSON library, SHA-256 and ed25519.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "clearing-vectors.json"

if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests" / "simulator")]

from nodes import EUR, Node, acct_of, advance, exchange, forge, offer_of  # noqa: E402
from restores import backup, restore  # noqa: E402
from settling import do, propose  # noqa: E402
from signedjson.key import decode_signing_key_base64, get_verify_key  # noqa: E402
from signedjson.sign import sign_json, verify_signed_json  # noqa: E402
from world import new_disk  # noqa: E402

from super_app.clearing import objects, store  # noqa: E402
from super_app.clearing.model import MessageType, Received, Sender, StatementState  # noqa: E402
from super_app.clearing.ports import Ask  # noqa: E402
from super_app.clearing.recovery_model import RestoreId  # noqa: E402
from super_app.clearing.settlement_model import Settlement  # noqa: E402
from super_app.clearing.settlements import reference_of  # noqa: E402
from super_app.clearing.statements import STATEMENT_EVERY_MS  # noqa: E402
from super_app.errors import Reason, Refused  # noqa: E402
from super_app.ids import ServerName  # noqa: E402
from super_app.names import ERRCODE_PREFIX  # noqa: E402
from super_app.signing import canonical, digest, key_id_of, public_b64  # noqa: E402

NAMES = ("hs1.example", "hs2.example")
SETTLEMENT_FIELDS = {"settlement_id": "S" * 42 + "Q", "amount": 1_000, "currency": "EUR", "scale": 2}


def matrix_key(seed: bytes) -> Any:
    return decode_signing_key_base64("ed25519", "1", base64.b64encode(seed).decode().rstrip("="))


class Vectored(Node):
    """A homeserver whose payment key and Matrix key are known to all."""

    def __init__(self, name: str) -> None:
        self.matrix_key = matrix_key(hashlib.sha256(f"{name} matrix key".encode()).digest())
        super().__init__(name, new_disk())
        self.key = SigningKey(hashlib.sha256(f"{name} payment key".encode()).digest())
        self.start("1")
        self.create()

    def certify(self, fields: dict[str, Any]) -> dict[str, Any]:
        certificate: dict[str, Any] = sign_json(fields, self.name, self.matrix_key)
        return certificate


def linked_pair() -> tuple[Vectored, Vectored]:
    hs1, hs2 = (Vectored(name) for name in NAMES)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        node.open_link(peer, 100_000)
    exchange(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    return hs1, hs2


def order_in(hs1: Node, hs2: Node, number: int, amount_minor: int = 1_250, memo: str | None = "Zmittag 🥨") -> Any:
    return hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor, number=number, memo=memo)


def make() -> dict[str, Any]:
    hs1, hs2 = linked_pair()
    order = order_in(hs1, hs2, 1)
    hs1.pay(order)
    exchange(hs1, hs2)
    # A payment that bob is asked about and declines, and one whose ABORT comes before its OFFER.
    hs2.till.answers[hs2.user("bob")] = Ask(acct=acct_of(hs2.user("bob")), until_ms=3_600_000)
    declined = hs1.pay(order_in(hs1, hs2, 2, memo=None))
    assert not isinstance(declined, Refused)
    exchange(hs1, hs2)
    assert hs2.tx(lambda cur: hs2.clearing.refuse(cur, hs1.name, declined, Reason.DECLINED, hs2.now_ms)) is None
    exchange(hs1, hs2)
    settlement = settle(hs1, hs2)
    link_id = objects.link_id_of(hs1.name, hs2.name)
    return {
        "about": "Examples of docs/clearing.md, canonical JSON as strings. All keys here are public: never use one.",
        "keys": [
            {
                "server": node.name,
                "payment_seed_hex": bytes(node.key).hex(),
                "payment_public_key": public_b64(node.key),
                "payment_key_id": key_id_of(node.key),
                "matrix_seed_hex": bytes(node.matrix_key).hex(),
                "matrix_key_id": "ed25519:1",
            }
            for node in (hs1, hs2)
        ],
        "link": {"servers": list(NAMES), "canonical": canonical(sorted(NAMES)).decode(), "link_id": link_id},
        "opening": opening_vectors(order),
        "chains": {node.name: [chained(each) for each in node.chain(peer)] for node, peer in ((hs1, hs2), (hs2, hs1))},
        "settlement": settlement,
        "queries": queries(hs1, hs2),
        "life": life(),
        "restore": restored(),
        "refused": refusals(),
    }


def settle(hs1: Vectored, hs2: Vectored) -> dict[str, Any]:
    """hs1 pays its debt, and one half arrives; how the reference on the transfer is made."""
    known = propose(hs1, hs2)
    assert isinstance(known, Settlement)
    exchange(hs1, hs2)
    do(hs2, hs1, "agree", known, "payto://iban/DE75512108001245126199")
    do(hs1, hs2, "sent", known, "E2E 2026-11-17")
    do(hs2, hs1, "received", known, known.terms.amount_minor // 2)
    named = [known.link_id, hs1.name, known.terms.settlement_id]
    return {
        "settlement_id": known.terms.settlement_id,
        "canonical": canonical(named).decode(),
        "digest": digest(named),
        "reference": reference_of(hs1.name, known),
    }


def life() -> dict[str, Any]:
    """Both chains of a link that is suspended, resumed, given a new key by hs1, stated and closed."""
    hs1, hs2 = linked_pair()
    hs1.pay(order_in(hs1, hs2, 1))
    exchange(hs1, hs2)
    for work in (
        lambda cur: hs1.clearing.suspend(cur, hs2.name, "maintenance", hs1.now_ms),
        lambda cur: hs1.clearing.resume(cur, hs2.name, hs1.now_ms),
    ):
        assert not isinstance(hs1.tx(work), Refused)
        exchange(hs1, hs2)
    first, hs1.key = hs1.key, SigningKey(hashlib.sha256(f"{hs1.name} second payment key".encode()).digest())
    hs1.retired = (first,)
    hs1.clearing = hs1.clearing_with(hs1.retired)
    assert not isinstance(hs1.tx(lambda cur: hs1.clearing.say_key(cur, hs2.name, hs1.now_ms)), Refused)
    exchange(hs1, hs2)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        advance(STATEMENT_EVERY_MS, node)
        node.tick()
        exchange(hs1, hs2)
        found = peer.link(node).their_statement
        assert found is not None
        assert found.state is StatementState.SAME
    assert not isinstance(hs2.tx(lambda cur: hs2.clearing.close(cur, hs1.name, "", hs2.now_ms)), Refused)
    exchange(hs1, hs2)
    return {
        "second_key": {
            "server": hs1.name,
            "payment_seed_hex": bytes(hs1.key).hex(),
            "payment_public_key": public_b64(hs1.key),
            "payment_key_id": key_id_of(hs1.key),
            "fingerprint": objects.fingerprint_of(public_b64(hs1.key)),
        },
        "chains": {node.name: [chained(each) for each in node.chain(peer)] for node, peer in ((hs1, hs2), (hs2, hs1))},
    }


def restored() -> dict[str, Any]:
    """hs1 has lost all but its LINK_OPEN, and fences; then its key is lost as well, and both pin the keys anew."""
    hs1, hs2 = linked_pair()
    copy = backup(hs1)
    hs1.pay(order_in(hs1, hs2, 1))
    exchange(hs1, hs2)
    wire_id = hs1.chain(hs2)[1]["wire_id"]
    asked = {
        **objects.query_fields(MessageType.OPENINGS, objects.link_id_of(hs1.name, hs2.name), hs1.name, hs2.name),
        "wire_ids": [wire_id],
    }
    answer = hs2.receive(hs1, {"object": asked})
    assert isinstance(answer, Received)
    restore(hs1, copy, boot="2")
    exchange(hs1, hs2)
    hs1.key = SigningKey(hashlib.sha256(f"{hs1.name} third payment key".encode()).digest())
    hs1.start("3")
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        shown, order = objects.fingerprint_of(public_b64(peer.key)), RestoreId(f"repin {node.name}")

        def pin(cur: Any, node: Node = node, peer: Node = peer, shown: str = shown, order: Any = order) -> object:
            return node.clearing.repin(cur, peer.name, shown, order, node.now_ms, take_back=False)

        assert not isinstance(node.tx(pin), Refused)
    for _ in range(4):
        exchange(hs1, hs2)
        advance(20_000, hs1, hs2)
    fences = {each["epoch"]: each for each in later(hs1, hs2) if each["type"] == "FENCE"}
    lists = [each for each in later(hs2, hs1) if each["type"] == "FENCED"]
    return {
        "fence": chained(fences[2]),
        "fenced": [chained(each) for each in lists if each["fence"] == objects.message_id_of(fences[2])],
        "given_back": [chained(each) for each in hs1.chain(hs2)[1:]],
        "openings": {
            "object": asked,
            "message_id": objects.message_id_of(asked),
            "answered_with": list(answer.openings),
        },
        "third_key": {"payment_public_key": public_b64(hs1.key), "payment_key_id": key_id_of(hs1.key)},
        "fence_with_key": chained(fences[3]),
        "fenced_with_key": [chained(each) for each in lists if each["fence"] == objects.message_id_of(fences[3])],
    }


def later(node: Node, peer: Node) -> list[dict[str, Any]]:
    """What a homeserver has signed, and what it has listed, from its first epoch on."""
    link_id = objects.link_id_of(node.name, peer.name)

    def read(cur: Any) -> list[dict[str, Any]]:
        return [
            store.content_of(each.body)
            for epoch in (1, 2, 3)
            for each in store.objects_between(cur, link_id, Sender.OURS, epoch, 1, 100, 100)
        ]

    return node.tx(read)


def chained(content: dict[str, Any]) -> dict[str, Any]:
    unsigned = {name: value for name, value in content.items() if name != "signature"}
    head = objects.head_of(
        content["link_id"],
        content["from_server"],
        content["epoch"],
        content["seq"],
        objects.message_id_of(content),
    )
    return {
        "canonical_without_signature": canonical(unsigned).decode(),
        "message_id": objects.message_id_of(content),
        "canonical_head": canonical(head).decode(),
        "object": content,
    }


def opening_vectors(order: Any) -> dict[str, Any]:
    opening = objects.opening_of(order)
    terms = objects.terms_of(order, EUR.scale)
    salts = opening["salts"]

    def party(who: str) -> str:
        found = opening[who]
        return canonical([found["user_id"], found["acct"], found.get("handle"), salts[who]]).decode()

    return {
        "opening": opening,
        "wire_id": {
            "canonical": canonical([order.payer.acct, order.payment_id, salts["wire"]]).decode(),
            "digest": terms.wire_id,
        },
        "payer_commit": {"canonical": party("payer"), "digest": terms.payer_commit},
        "payee_commit": {"canonical": party("payee"), "digest": terms.payee_commit},
        "memo_commit": {
            "canonical": canonical([opening.get("memo"), opening.get("refund_of"), salts["memo"]]).decode(),
            "digest": terms.memo_commit,
        },
    }


def queries(hs1: Node, hs2: Node) -> list[dict[str, Any]]:
    """Questions of hs1 and the answers of hs2, as their chains stand at the end."""
    link_id = objects.link_id_of(hs1.name, hs2.name)
    wire_id = hs1.chain(hs2)[1]["wire_id"]
    asked = [
        objects.query_fields(MessageType.HEAD, link_id, hs1.name, hs2.name),
        {**objects.query_fields(MessageType.STATUS, link_id, hs1.name, hs2.name), "wire_id": wire_id},
        {
            **objects.query_fields(MessageType.RANGE, link_id, hs1.name, hs2.name),
            "of": hs2.name,
            "epoch": 1,
            "from_seq": 2,
            "to_seq": 3,
        },
    ]
    found: list[dict[str, Any]] = []
    for query in asked:
        answer = hs2.receive(hs1, {"object": query})
        assert isinstance(answer, Received)
        ids = [objects.message_id_of(each) for each in answer.objects]
        found.append({"object": query, "message_id": objects.message_id_of(query), "answered_with": ids})
    return found


def refusals() -> list[dict[str, Any]]:
    """Bodies that hs2 refuses right after the link has opened, with the code of the refusal."""
    hs1, hs2 = linked_pair()
    order = order_in(hs1, hs2, 1)
    good = offer_of(hs1, hs2, order)
    content = good["object"]

    def forged(because: str, body: dict[str, Any], origin: ServerName = hs1.name) -> dict[str, Any]:
        answer = hs2.receive(origin, body)
        assert isinstance(answer, Refused), because
        return {"because": because, "origin": origin, "errcode": ERRCODE_PREFIX + answer.reason.name, "body": body}

    def changed(**fields: Any) -> dict[str, Any]:
        return {**good, "object": {**content, **fields}}

    resigned = objects.seal({name: value for name, value in content.items() if name != "signature"}, hs2.key)
    strangers = hs1.order("@carol:hs3.example", hs2.user("bob"), 1_250, number=7)
    elsewhere = hs1.order(hs1.user("alice"), "@carol:hs3.example", 1_250, number=8)
    return [
        forged("the amount is a string", changed(amount="1250")),
        forged("the amount is a bool", changed(amount=True)),
        forged("the amount is zero", changed(amount=0)),
        forged("the amount is 2^53", changed(amount=2**53)),
        forged("the version is a bool", changed(v=True)),
        forged("a field is unknown", changed(tip=1)),
        forged("an optional field is null", changed(e2e_id=None)),
        forged("the object was changed after signing", changed(amount=1_251)),
        forged("another key signed it", {**good, "object": resigned}),
        forged("the sender is not the origin", good, ServerName("hs3.example")),
        forged("the link is of other servers", offer_of(hs1, hs2, order, link_id="A" * 43)),
        forged("the opening is missing", {"object": content}),
        forged("the opening is another's", {**good, "opening": objects.opening_of(order_in(hs1, hs2, 9))}),
        forged("the payer is of another server", offer_of(hs1, hs2, strangers)),
        forged("the payee is of another server", offer_of(hs1, hs2, elsewhere)),
        forged(
            "the settlement was never proposed",
            {"object": forge(hs1, hs2, MessageType.SETTLE_SENT, **SETTLEMENT_FIELDS)},
        ),
        forged(
            "more is received than was sent",
            {"object": forge(hs1, hs2, MessageType.SETTLE_RECEIVED, **SETTLEMENT_FIELDS, received=1_001)},
        ),
        forged(
            "the account is no payto: URI",
            {"object": forge(hs1, hs2, MessageType.SETTLE_AGREE, **SETTLEMENT_FIELDS, pay_to="mailto:x")},
        ),
        forged("the epoch is not open", offer_of(hs1, hs2, order, epoch=2)),
        forged(
            "it answers a payment that was never offered",
            {
                "object": forge(
                    hs1, hs2, MessageType.ACCEPT, **objects.terms_fields(objects.terms_of(order, 2)), valid_ms=1
                )
            },
        ),
    ]


# The document alone.


def c14n(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha(raw: bytes) -> str:
    return b64(hashlib.sha256(raw).digest())


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def test_the_code_makes_the_vectors_that_are_published(vectors: dict[str, Any]) -> None:
    assert make() == vectors


def test_keys(vectors: dict[str, Any]) -> None:
    for key in vectors["keys"]:
        public = SigningKey(bytes.fromhex(key["payment_seed_hex"])).verify_key
        assert b64(bytes(public)) == key["payment_public_key"]
        assert key["payment_key_id"] == "ed25519:" + sha(bytes(public))[:8]


def test_link_and_commitments(vectors: dict[str, Any]) -> None:
    link = vectors["link"]
    assert c14n(sorted(link["servers"])).decode() == link["canonical"]
    assert sha(link["canonical"].encode()) == link["link_id"]
    for name in ("wire_id", "payer_commit", "payee_commit", "memo_commit"):
        found = vectors["opening"][name]
        assert sha(found["canonical"].encode()) == found["digest"]
        assert found["digest"] == vectors["chains"][NAMES[0]][1]["object"][name]


def test_the_reference_of_a_settlement(vectors: dict[str, Any]) -> None:
    settlement = vectors["settlement"]
    named = [vectors["link"]["link_id"], NAMES[0], settlement["settlement_id"]]
    assert c14n(named).decode() == settlement["canonical"]
    assert sha(c14n(named)) == settlement["digest"]
    number, body = int.from_bytes(unb64(settlement["digest"]), "big"), ""
    for _ in range(12):
        number, place = divmod(number, 32)
        body += "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[place]
    rest = int("".join(str(int(char, 36)) for char in body + "RF00")) % 97
    assert settlement["reference"] == f"RF{98 - rest:02}{body}"
    said = [each["object"] for name in NAMES for each in vectors["chains"][name] if "settlement_id" in each["object"]]
    assert [each["type"].removeprefix("SETTLE_") for each in said] == ["PROPOSE", "SENT", "AGREE", "RECEIVED"]
    assert {each["settlement_id"] for each in said} == {settlement["settlement_id"]}


@pytest.mark.parametrize("server", NAMES)
def test_chains(vectors: dict[str, Any], server: str) -> None:
    public = VerifyKey(unb64(next(key["payment_public_key"] for key in vectors["keys"] if key["server"] == server)))
    other = vectors["chains"][NAMES[1 - NAMES.index(server)]]
    previous = ""
    for seq, vector in enumerate(vectors["chains"][server], start=1):
        content = vector["object"]
        unsigned = {name: value for name, value in content.items() if name != "signature"}
        assert c14n(unsigned).decode() == vector["canonical_without_signature"]
        assert sha(c14n(unsigned)) == vector["message_id"]
        head = {name: content[name] for name in ("epoch", "from_server", "link_id", "seq")}
        assert c14n({**head, "message_id": vector["message_id"]}).decode() == vector["canonical_head"]
        public.verify(vector["canonical_head"].encode(), unb64(content["signature"]))
        with pytest.raises(BadSignatureError):
            public.verify(
                c14n({**head, "message_id": vector["message_id"], "seq": seq + 1}), unb64(content["signature"])
            )
        assert (content["seq"], content["prev_hash"]) == (seq, previous)
        previous = vector["message_id"]
        seen = content["seen"]
        if seen["seq"]:
            theirs = other[seen["seq"] - 1]
            assert (seen["hash"], seen["signature"]) == (theirs["message_id"], theirs["object"]["signature"])


def test_each_object_is_signed_by_the_key_of_its_place(vectors: dict[str, Any]) -> None:
    seen_types: set[str] = set()
    for server in NAMES:
        public = next(key["payment_public_key"] for key in vectors["keys"] if key["server"] == server)
        previous = ""
        for seq, vector in enumerate(vectors["life"]["chains"][server], start=1):
            content = vector["object"]
            unsigned = {name: value for name, value in content.items() if name != "signature"}
            assert (sha(c14n(unsigned)), c14n(unsigned).decode()) == (
                vector["message_id"],
                vector["canonical_without_signature"],
            )
            head = {name: content[name] for name in ("epoch", "from_server", "link_id", "seq")}
            assert c14n({**head, "message_id": vector["message_id"]}).decode() == vector["canonical_head"]
            VerifyKey(unb64(public)).verify(vector["canonical_head"].encode(), unb64(content["signature"]))
            assert content["key_id"] == "ed25519:" + sha(unb64(public))[:8]
            assert (content["seq"], content["prev_hash"]) == (seq, previous)
            previous = vector["message_id"]
            seen_types.add(content["type"])
            if content["type"] == "KEY":
                public = content["key"]["public_key"]
                assert public == vectors["life"]["second_key"]["payment_public_key"]
    assert {"SUSPEND", "RESUME", "KEY", "STATEMENT", "CLOSE"} <= seen_types


def test_a_restore(vectors: dict[str, Any]) -> None:
    found = vectors["restore"]
    publics = {key["server"]: key["payment_public_key"] for key in vectors["keys"]}
    third = found["third_key"]["payment_public_key"]
    signed = [*found["fenced"], *found["given_back"], *found["fenced_with_key"], found["fence"]]
    for vector, public in [
        *((each, publics[each["object"]["from_server"]]) for each in signed),
        (
            found["fence_with_key"],
            third,
        ),
    ]:
        content = vector["object"]
        unsigned = {name: value for name, value in content.items() if name != "signature"}
        assert c14n(unsigned).decode() == vector["canonical_without_signature"]
        assert sha(c14n(unsigned)) == vector["message_id"]
        head = {name: content[name] for name in ("epoch", "from_server", "link_id", "seq")}
        assert c14n({**head, "message_id": vector["message_id"]}).decode() == vector["canonical_head"]
        VerifyKey(unb64(public)).verify(vector["canonical_head"].encode(), unb64(content["signature"]))
    fence, (page,) = found["fence"]["object"], (each["object"] for each in found["fenced"])
    assert (fence["epoch"], fence["seq"], fence["prev_hash"]) == (2, 1, "")
    assert (page["fence"], page["page"], page["pages"]) == (found["fence"]["message_id"], 1, 1)
    (run,) = page["held"]
    given = [each["object"] for each in found["given_back"]]
    assert (run["epoch"], run["first"], run["last"]) == (1, given[0]["seq"], given[-1]["seq"])
    assert run["hash"] == found["given_back"][-1]["message_id"]
    assert fence["after"] == {"epoch": 1, "seq": 1, "hash": given[0]["prev_hash"]}
    asked, (opening,) = found["openings"]["object"], found["openings"]["answered_with"]
    assert asked["wire_ids"] == [given[0]["wire_id"]]
    named = [opening["payer"]["acct"], opening["payment_id"], opening["salts"]["wire"]]
    assert sha(c14n(named)) == given[0]["wire_id"]
    anew = found["fence_with_key"]["object"]
    assert (anew["key"]["public_key"], anew["key_id"]) == (third, found["third_key"]["payment_key_id"])
    assert {each["object"]["fence"] for each in found["fenced_with_key"]} == {found["fence_with_key"]["message_id"]}
    seed = next(key["matrix_seed_hex"] for key in vectors["keys"] if key["server"] == NAMES[0])
    certificate = anew["key"]["certificate"]
    assert certificate["public_key"] == third
    verify_signed_json(certificate, NAMES[0], get_verify_key(matrix_key(bytes.fromhex(seed))))


def test_fingerprints(vectors: dict[str, Any]) -> None:
    second = vectors["life"]["second_key"]
    digits = hashlib.sha256(second["payment_public_key"].encode()).hexdigest()[:32]
    assert second["fingerprint"].split(" ") == [digits[at : at + 4] for at in range(0, 32, 4)]


def test_certificates(vectors: dict[str, Any]) -> None:
    for key in vectors["keys"]:
        certificate = vectors["chains"][key["server"]][0]["object"]["key"]["certificate"]
        verify_key = get_verify_key(matrix_key(bytes.fromhex(key["matrix_seed_hex"])))
        verify_signed_json(certificate, key["server"], verify_key)


def test_each_refusal_is_still_given(vectors: dict[str, Any]) -> None:
    _, hs2 = linked_pair()
    for vector in vectors["refused"]:
        answer = hs2.receive(ServerName(vector["origin"]), vector["body"])
        assert isinstance(answer, Refused), vector["because"]
        assert ERRCODE_PREFIX + answer.reason.name == vector["errcode"], vector["because"]


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

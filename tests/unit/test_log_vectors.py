"""The vectors of docs/directory-vectors.json: the log, its proofs and the evidence, for other implementations.

``python tests/unit/test_log_vectors.py`` writes the file anew.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from signedjson.key import decode_signing_key_base64, get_verify_key
from signedjson.sign import sign_json, verify_signed_json

from super_app.accounts.model import Genesis
from super_app.directory import badges, generations, heads, keys, log, moves, records, server_record
from super_app.directory.heads import Growth, SeenHead, verify_evidence
from super_app.directory.model import Absent, AskedBy, DirectoryKey, Record, Withdrawal
from super_app.errors import Refused
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import canonical, digest, from_b64, generate_key, key_id_of, public_b64, signed, to_b64
from super_app.transparency import checkpoint, tree

FILE = Path(__file__).parents[2] / "docs" / "directory-vectors.json"
SERVER, WITNESS = ServerName("hs1.test"), ServerName("hs2.test")
KEY, WITNESS_KEY, NEXT_KEY = (generate_key(bytes([number]) * 32) for number in (1, 2, 3))
MATRIX_SEED = bytes([9]) * 32
NOW_MS = 1_700_000_000_000
RFC_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")


def hash_in(leaves: list[bytes], node: tree.Node) -> bytes:
    return tree.root_of(leaves[node.number << node.level : (node.number + 1) << node.level])


def proof_of(leaves: list[bytes], parts: tuple[tree.Part, ...]) -> list[bytes]:
    return [tree.fold(part, lambda node: hash_in(leaves, node)) for part in parts]


def on_the_wire(hashes: list[bytes]) -> list[str]:
    return [to_b64(each) for each in hashes]


def rfc() -> dict[str, Any]:
    """The tree that implementations of RFC 6962 are checked with, and proofs by RFC 9162, 2.1.3 and 2.1.4."""
    leaves = [tree.leaf_hash(bytes.fromhex(leaf)) for leaf in RFC_LEAVES]
    return {
        "leaves": list(RFC_LEAVES),
        "roots": [tree.root_of(leaves[:size]).hex() for size in range(len(leaves) + 1)],
        "inclusion": [
            {"index": index, "size": size, "proof": [each.hex() for each in inclusion(leaves, index, size)]}
            for index, size in ((0, 1), (0, 8), (5, 8), (2, 3), (1, 5))
        ],
        "consistency": [
            {"from": old, "size": size, "proof": [each.hex() for each in consistency(leaves, old, size)]}
            for old, size in ((1, 1), (1, 8), (6, 8), (2, 5), (4, 7))
        ],
    }


def inclusion(leaves: list[bytes], index: int, size: int) -> list[bytes]:
    return proof_of(leaves, tree.inclusion_parts(index, size))


def consistency(leaves: list[bytes], old: int, size: int) -> list[bytes]:
    return proof_of(leaves, tree.consistency_parts(old, size))


def record(number: int) -> dict[str, Any]:
    acct = Genesis(server=SERVER, localpart=f"p{number}", created_ms=NOW_MS, nonce=f"{number:032x}").acct()
    return signed(
        {
            "type": records.RECORD_TYPE,
            "v": 1,
            "handle": f"@p{number}:{SERVER}",
            "server": SERVER,
            "acct": acct,
            "user_id": f"@p{number}:{SERVER}",
            "status": "active",
            "discover": "public",
            "services": {"chat": True, "call": True, "pay": True},
            "badges": [],
            "seq": 1,
            "issued": NOW_MS,
            "expires": NOW_MS + 2_592_000_000,
        },
        KEY,
    )


def note_of(leaves: list[bytes], size: int, time_s: int) -> str:
    name = log.origin_of(SERVER)
    text = checkpoint.Checkpoint(origin=name, size=size, root=tree.root_of(leaves[:size])).text()
    lines = (checkpoint.sign(text, name, KEY), checkpoint.cosign(text, name, KEY, time_s))
    return checkpoint.Note(text=text, signatures=lines).dump()


def certificate() -> dict[str, Any]:
    matrix_key = decode_signing_key_base64("ed25519", "1", to_b64(MATRIX_SEED).replace("-", "+").replace("_", "/"))
    content: dict[str, Any] = sign_json(records.certificate(SERVER, KEY, issued_ms=NOW_MS), SERVER, matrix_key)
    return content


def key() -> DirectoryKey:
    read = records.read_certificate(certificate(), SERVER)
    assert not isinstance(read, Refused)
    return read


def seen(note: str) -> SeenHead:
    found = heads.read_old_head(note, key())
    assert found is not None
    return found


def evidence(leaves: list[bytes]) -> list[dict[str, Any]]:
    other = [*leaves[:4], tree.leaf_hash(b"another"), *leaves[5:]]
    first, now_s = seen(note_of(leaves, 5, NOW_MS // 1000)), NOW_MS // 1000
    grown = Growth.model_validate(
        {
            "from": 5,
            "from_root": to_b64(tree.root_of(other[:5])),
            "consistency": on_the_wire(consistency(other, 5, 7)),
        }
    )
    found: list[object] = [
        heads.judge(first, seen(note_of(other, 5, now_s + 1)), Growth()),
        heads.judge(first, seen(note_of(other, 7, now_s + 1)), grown),
        heads.judge(first, seen(note_of(leaves, 3, now_s + 1)), Growth()),
    ]
    statement = head_statement(leaves, 3, issued_ms=NOW_MS + 700_000)
    said = heads.read_head_statement(statement, SERVER, public_b64(KEY))
    assert not isinstance(said, Refused)
    found.append(heads.judge_statement(first, said, statement, key()))
    assert all(isinstance(each, heads.Evidence) for each in found)
    return [dict(each.content) for each in found if isinstance(each, heads.Evidence)]


def head_statement(leaves: list[bytes], size: int, *, issued_ms: int) -> dict[str, Any]:
    return signed(
        {
            "type": heads.HEAD_TYPE,
            "v": 1,
            "server": SERVER,
            "issued": issued_ms,
            "checkpoint": note_of(leaves, size, NOW_MS // 1000 - 60),
            "growths": [],
        },
        KEY,
    )


def made() -> dict[str, Any]:
    issued = [record(number) for number in range(7)]
    salts = [bytes([number + 16]) * 32 for number in range(7)]
    entries = [log.entry_of(salt, digest(each)) for salt, each in zip(salts, issued, strict=True)]
    leaves = [tree.leaf_hash(entry) for entry in entries]
    note = note_of(leaves, 7, NOW_MS // 1000)
    text = note.partition("\n\n")[0] + "\n"
    genesis = Genesis(
        server=SERVER, localpart="p0", created_ms=NOW_MS, nonce=f"{0:032x}", recovery_key=public_b64(NEXT_KEY)
    )
    return {
        "about": "Examples of docs/directory.md. All keys here are public: never use one.",
        "keys": {
            "server": SERVER,
            "directory_seed_hex": bytes(KEY).hex(),
            "directory_public_key": public_b64(KEY),
            "directory_key_id": key_id_of(KEY),
            "matrix_seed_hex": MATRIX_SEED.hex(),
            "matrix_key_id": "ed25519:1",
            "log_key": log.key_of_log(SERVER, bytes(KEY.verify_key)),
            "witness": WITNESS,
            "witness_seed_hex": bytes(WITNESS_KEY).hex(),
        },
        "rfc6962": rfc(),
        "genesis": {"content": genesis.content(), "acct": genesis.acct()},
        "certificate": certificate(),
        "leaves": [
            {
                "record": each,
                "digest": digest(each),
                "salt": to_b64(salt),
                "entry": to_b64(entry),
                "leaf_hash": to_b64(leaf),
            }
            for each, salt, entry, leaf in zip(issued, salts, entries, leaves, strict=True)
        ],
        "checkpoint": note,
        "cosignature": checkpoint.cosign(text, log.origin_of(WITNESS), WITNESS_KEY, NOW_MS // 1000 + 5).line(),
        "inclusion": {"index": 4, "proof": on_the_wire(inclusion(leaves, 4, 7))},
        "batch": {
            "indexes": [1, 2, 5],
            "proof": on_the_wire(proof_of(leaves, tree.batch_parts([1, 2, 5], 7))),
        },
        "consistency": {
            "from": 4,
            "from_root": to_b64(tree.root_of(leaves[:4])),
            "consistency": on_the_wire(consistency(leaves, 4, 7)),
        },
        "feed": feed(issued, salts, leaves, note),
        "absent": records.absent(SERVER, f"@nobody:{SERVER}", AskedBy.HANDLE, KEY, issued_ms=NOW_MS),
        "badges": badges_of_the_bank(),
        "server_record": server_itself(),
        "rotation": keys.rotation(SERVER, KEY, NEXT_KEY, issued_ms=NOW_MS),
        "head": head_statement(leaves, 7, issued_ms=NOW_MS),
        "evidence": evidence(leaves),
        "move": move(genesis),
        "generation": generations.statement(
            KEY,
            SERVER,
            number=1,
            base=(4, tree.root_of(leaves[:4])),
            base_s=NOW_MS // 1000 - 600,
            declared_ms=NOW_MS,
            given_up=[(7, tree.root_of(leaves)), (6, tree.root_of(leaves[:6]))],
        ),
    }


def feed(issued: list[dict[str, Any]], salts: list[bytes], leaves: list[bytes], note: str) -> dict[str, Any]:
    """A page for who has seen the log with four leaves and the feed to position 10: two records and a withdrawal."""
    numbers = [1, 2, 5]
    entries = [issued[number] for number in numbers]
    places: list[Any] = [{"index": number, "salt": to_b64(salts[number])} for number in numbers]
    left = records.withdrawal(Handle(f"@p9:{SERVER}"), 3, KEY, issued_ms=NOW_MS)
    return {
        "since": 10,
        "from": 4,
        "answer": {
            "v": 1,
            "server": SERVER,
            "publishes": True,
            "entries": [*entries[:1], left, *entries[1:]],
            "next": 15,
            "head": 15,
            "certificate": certificate(),
            "log": {
                "checkpoint": note,
                "leaves": [*places[:1], None, *places[1:]],
                "inclusion": on_the_wire(proof_of(leaves, tree.batch_parts(numbers, 7))),
                "from": 4,
                "from_root": to_b64(tree.root_of(leaves[:4])),
                "consistency": on_the_wire(consistency(leaves, 4, 7)),
            },
        },
    }


def badges_of_the_bank() -> list[dict[str, Any]]:
    """For the handle of the second record: of its operator, of a domain, and of an organisation elsewhere."""
    handle, acct = Handle(f"@p1:{SERVER}"), Acct(record(1)["acct"])
    made_by = (
        (badges.Kind.OPERATOR, SERVER, SERVER, KEY, badges.OPERATOR_LIFETIME_MS),
        (badges.Kind.DOMAIN, "bank.example", SERVER, KEY, badges.RECHECKED_LIFETIME_MS),
        (badges.Kind.ORGANISATION, f"@bank:{WITNESS}", WITNESS, WITNESS_KEY, badges.RECHECKED_LIFETIME_MS),
    )
    return [
        badges.badge(kind, issuer, server, handle, acct, key, issued_ms=NOW_MS, expires_ms=NOW_MS + lifetime_ms)
        for kind, issuer, server, key, lifetime_ms in made_by
    ]


def server_itself() -> dict[str, Any]:
    return signed(
        {
            "type": server_record.SERVER_TYPE,
            "v": 1,
            "server": SERVER,
            "directory_key": public_b64(KEY),
            "features": {"directory": True, "calls": True, "payments": False, "web": True},
            "seq": 1,
            "issued": NOW_MS,
            "expires": NOW_MS + 2_592_000_000,
        },
        KEY,
    )


def move(genesis: Genesis) -> dict[str, Any]:
    """Somebody moves from the server to the witness: what each signs, and what the recovery key would."""
    old, new = UserId(f"@p0:{SERVER}"), UserId(f"@alice:{WITNESS}")
    acct = Genesis(server=WITNESS, localpart="alice", created_ms=NOW_MS, nonce="aa" * 16).acct()
    accept = moves.acceptance(
        WITNESS_KEY,
        user_id=new,
        acct=acct,
        handle=Handle(new),
        from_user_id=old,
        from_acct=genesis.acct(),
        issued_ms=NOW_MS,
    )
    read = moves.read_acceptance(
        accept, WITNESS, public_b64(WITNESS_KEY), from_user_id=old, from_acct=genesis.acct(), now_ms=NOW_MS
    )
    if isinstance(read, Refused):
        raise TypeError(read.message)
    return {
        "new_server": WITNESS,
        "new_directory_public_key": public_b64(WITNESS_KEY),
        "accept": accept,
        "moved_to": moves.moved_to(read, NOW_MS + 1_000),
        "moved_from": moves.moved_from(old, genesis.acct(), NOW_MS + 1_000),
        "claim": moves.claim(NEXT_KEY, genesis.content(), to_user_id=new, to_acct=acct, issued_ms=NOW_MS),
    }


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def test_the_file_has_what_the_code_makes(vectors: dict[str, Any]) -> None:
    assert vectors == made()


def test_the_roots_are_those_that_implementations_of_rfc_6962_agree_on(vectors: dict[str, Any]) -> None:
    roots = vectors["rfc6962"]["roots"]
    assert roots[0] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert roots[8] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    # Proofs as certificate-transparency-go's own tests have them.
    by_place = {(each["index"], each["size"]): each["proof"] for each in vectors["rfc6962"]["inclusion"]}
    assert by_place[0, 8] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


def test_a_reader_comes_to_the_same_from_the_file_alone(vectors: dict[str, Any]) -> None:
    public = vectors["keys"]["directory_public_key"]
    read = records.read_certificate(vectors["certificate"], SERVER)
    assert not isinstance(read, Refused)
    head = heads.read_head(vectors["checkpoint"], read, NOW_MS)
    assert isinstance(head, SeenHead)
    assert head.size == len(vectors["leaves"])
    for number, leaf in enumerate(vectors["leaves"]):
        assert isinstance(records.read_record(leaf["record"], SERVER, public, NOW_MS), Record)
        assert to_b64(heads.leaf_of(leaf["record"], leaf["salt"]) or b"") == leaf["leaf_hash"], number
    proof = [from_b64(each) for each in vectors["inclusion"]["proof"]]
    index = vectors["inclusion"]["index"]
    assert tree.verify_inclusion(from_b64(vectors["leaves"][index]["leaf_hash"]), index, head.size, proof, head.root)
    batch = {index: from_b64(vectors["leaves"][index]["leaf_hash"]) for index in vectors["batch"]["indexes"]}
    assert tree.verify_batch(batch, head.size, [from_b64(each) for each in vectors["batch"]["proof"]], head.root)
    grown = vectors["consistency"]
    hashes = [from_b64(each) for each in grown["consistency"]]
    assert tree.verify_consistency(grown["from"], from_b64(grown["from_root"]), head.size, head.root, hashes)
    cosigned = checkpoint.read_note(vectors["checkpoint"] + vectors["cosignature"])
    assert cosigned is not None
    witness = bytes(generate_key(bytes.fromhex(vectors["keys"]["witness_seed_hex"])).verify_key)
    assert checkpoint.cosignature_of(cosigned, log.origin_of(WITNESS), witness) is not None


def page_of(vectors: dict[str, Any]) -> tuple[list[Any], heads.PageProof, SeenHead]:
    answer = vectors["feed"]["answer"]
    proof = heads.read_page_proof(answer["log"], SERVER)
    assert isinstance(proof, heads.PageProof)
    head = heads.read_head(proof.checkpoint, key(), NOW_MS)
    assert isinstance(head, SeenHead)
    return answer["entries"], proof, head


def test_a_page_of_the_feed_is_read_from_the_file_alone(vectors: dict[str, Any]) -> None:
    public = vectors["keys"]["directory_public_key"]
    entries, proof, head = page_of(vectors)
    read = [records.read_feed_entry(entry, SERVER, public, NOW_MS) for entry in entries]
    assert [type(each) for each in read] == [Record, Withdrawal, Record, Record]
    assert vectors["feed"]["answer"]["next"] >= vectors["feed"]["since"] + len(entries)
    texts = [canonical(entry) for entry in entries]
    assert heads.check_page([texts[0], None, *texts[2:]], proof, head) == [True, False, True, True]
    known = vectors["consistency"]
    assert heads.root_before(vectors["feed"]["from"], head, proof) == from_b64(known["from_root"])


@pytest.mark.parametrize("change", ["salt", "index", "inclusion", "swap"])
def test_a_page_whose_proof_was_changed_is_refused(vectors: dict[str, Any], change: str) -> None:
    entries, _, head = page_of(vectors)
    log_of_page = vectors["feed"]["answer"]["log"]
    leaves: list[Any] = [dict(each) if each else None for each in log_of_page["leaves"]]
    inclusion = list(log_of_page["inclusion"])
    match change:
        case "salt":
            leaves[0]["salt"] = to_b64(bytes(32))
        case "index":
            leaves[3]["index"] = 6
        case "inclusion":
            inclusion[0] = to_b64(bytes(32))
        case _:
            leaves[0], leaves[2] = leaves[2], leaves[0]
    changed = heads.read_page_proof({**log_of_page, "leaves": leaves, "inclusion": inclusion}, SERVER)
    assert isinstance(changed, heads.PageProof)
    texts = [canonical(entry) for entry in entries]
    assert isinstance(heads.check_page([texts[0], None, *texts[2:]], changed, head), Refused)


def test_nobody_badges_and_the_server_record_are_read_from_the_file_alone(vectors: dict[str, Any]) -> None:
    public = vectors["keys"]["directory_public_key"]
    asked, nobody = f"@nobody:{SERVER}", vectors["absent"]

    def answer(asked: str, now_ms: int) -> object:
        return records.read_answer(nobody, SERVER, public, asked=asked, by=AskedBy.HANDLE, now_ms=now_ms)

    assert isinstance(answer(asked, NOW_MS), Absent)
    assert isinstance(answer(f"@other:{SERVER}", NOW_MS), Refused)
    assert isinstance(answer(asked, nobody["expires"] + records.CLOCK_SKEW_MS), Refused)
    its = vectors["leaves"][1]["record"]
    keys_of = {SERVER: public, WITNESS: vectors["move"]["new_directory_public_key"]}
    for content in vectors["badges"]:
        key_of_badge = keys_of[badges.server_of_badge(content) or SERVER]
        read = badges.read(content, key_of_badge, its["handle"], its["acct"], NOW_MS)
        assert isinstance(read, badges.Badge)
        assert badges.read(content, key_of_badge, Handle(f"@p2:{SERVER}"), its["acct"], NOW_MS) is None
        assert badges.read(content, key_of_badge, its["handle"], Acct("x" * 43), NOW_MS) is None
        assert badges.read(content, key_of_badge, its["handle"], its["acct"], read.expires_ms) is None
    itself = server_record.read(vectors["server_record"], SERVER, public, NOW_MS)
    assert isinstance(itself, server_record.ServerRecord)
    assert isinstance(server_record.read(vectors["server_record"], WITNESS, public, NOW_MS), Refused)


@pytest.mark.parametrize(("later_s", "good"), [(900, True), (901, False), (-300, True), (-301, False)])
def test_a_checkpoint_is_of_now_or_it_is_shown_again(vectors: dict[str, Any], later_s: int, *, good: bool) -> None:
    head = heads.read_head(vectors["checkpoint"], key(), NOW_MS + later_s * 1000)
    assert isinstance(head, SeenHead if good else Refused)


def test_the_chain_of_keys_goes_from_the_matrix_key_to_the_next_directory_key(vectors: dict[str, Any]) -> None:
    seed = to_b64(bytes.fromhex(vectors["keys"]["matrix_seed_hex"])).replace("-", "+").replace("_", "/")
    matrix_key = get_verify_key(decode_signing_key_base64("ed25519", "1", seed))
    verify_signed_json(vectors["certificate"], SERVER, matrix_key)
    after = DirectoryKey(
        server=SERVER, key_id=key_id_of(NEXT_KEY), public_key=public_b64(NEXT_KEY), certificate=certificate()
    )
    assert keys.leads_to(vectors["keys"]["directory_public_key"], [vectors["rotation"]], after)
    changed = {**vectors["rotation"], "issued": 1}
    assert not keys.leads_to(vectors["keys"]["directory_public_key"], [changed], after)


@pytest.mark.parametrize("number", range(4))
def test_the_evidence_convinces_a_stranger_and_not_when_a_letter_is_changed(
    vectors: dict[str, Any], number: int
) -> None:
    found = vectors["evidence"][number]
    verified = verify_evidence(found)
    assert verified is not None
    assert verified.kind.value == found["kind"] == ("split", "fork", "rollback", "replay")[number]
    assert verify_evidence({**found, "first": found["first"].replace("5\n", "6\n", 1)}) is None
    assert verify_evidence({**found, "kind": "other"}) is None
    assert verify_evidence({**found, "certificates": found["certificates"][:1]}) is None


def test_both_halves_of_the_move_fit_and_the_claim_stands_for_the_old_one(vectors: dict[str, Any]) -> None:
    found, genesis = vectors["move"], vectors["genesis"]
    to, come_from = (
        moves.read_moved_to(found["moved_to"], SERVER),
        moves.read_moved_from(found["moved_from"], ServerName(found["new_server"])),
    )
    assert to is not None
    assert come_from is not None
    assert to.accept == found["accept"]
    assert (come_from.acct, come_from.user_id) == (genesis["acct"], "@p0:hs1.test")
    now_ms = vectors["move"]["claim"]["issued"]
    claim = moves.read_claim(found["claim"], to_user_id=to.user_id, to_acct=to.acct, now_ms=now_ms)
    assert isinstance(claim, moves.Claim)
    assert (claim.acct, claim.user_id) == (come_from.acct, come_from.user_id)


def test_the_generation_gives_up_what_it_names(vectors: dict[str, Any]) -> None:
    found = generations.read(vectors["generation"], SERVER, vectors["keys"]["directory_public_key"])
    assert found is not None
    assert {size for size, _ in found.given_up} == {6, 7}
    assert to_b64(found.base_root) == vectors["consistency"]["from_root"]
    changed = {**vectors["generation"], "number": 2}
    assert generations.read(changed, SERVER, vectors["keys"]["directory_public_key"]) is None


def test_the_acct_follows_from_the_genesis(vectors: dict[str, Any]) -> None:
    assert digest(vectors["genesis"]["content"]) == vectors["genesis"]["acct"]
    assert len(from_b64(vectors["genesis"]["content"]["recovery_key"])) == 32


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

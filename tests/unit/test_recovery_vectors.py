"""The OPRF of recovery against RFC 9497's vectors, sealing against another HPKE, and the documented vectors."""

import itertools
import json
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from super_app.errors import Refused
from super_app.ids import ServerName, UserId
from super_app.recovery import client, group, sealing, threshold, voprf
from super_app.recovery.client import Purpose
from super_app.recovery.group import Element, Scalar
from super_app.recovery.model import Deal, Version, seal_info
from super_app.recovery.voprf import Evaluation, Proof
from super_app.signing import canonical, from_b64

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "recovery-vectors.json"
# RFC 9497, appendix A.1.2: ristretto255-SHA512, VOPRF mode, batches of one.
SEED: Final = bytes.fromhex("a3" * 32)
KEY_INFO: Final = bytes.fromhex("74657374206b6579")
SECRET: Final = "e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909"
PUBLIC: Final = "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e"
BLIND: Final = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"
PROOF_RANDOM: Final = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e"
RFC_9497: Final = (
    {
        "input": "00",
        "blinded": "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
        "element": "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e",
        "proof": "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd06"
        "6d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
        "output": "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d"
        "a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c",
    },
    {
        "input": "5a" * 17,
        "blinded": "cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c",
        "element": "60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468",
        "proof": "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a"
        "67154fabf031fd936051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
        "output": "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60"
        "356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6",
    },
)


def scalar(text: str) -> Scalar:
    return group.read_scalar(bytes.fromhex(text))


def element(text: str) -> Element:
    return group.read_element(bytes.fromhex(text))


def test_the_key_of_rfc_9497_follows_from_its_seed() -> None:
    key = voprf.derive_key(SEED, KEY_INFO)
    assert (key.hex(), group.base_times(key).hex()) == (SECRET, PUBLIC)


@pytest.mark.parametrize("vector", RFC_9497)
def test_each_step_gives_what_rfc_9497_says(vector: dict[str, str]) -> None:
    message, key = bytes.fromhex(vector["input"]), scalar(SECRET)
    blinded = voprf.blind(message, scalar(BLIND))
    assert blinded.hex() == vector["blinded"]
    evaluation = voprf.evaluate(key, blinded, scalar(PROOF_RANDOM))
    assert evaluation.element.hex() == vector["element"]
    assert evaluation.proof.to_bytes().hex() == vector["proof"]
    assert voprf.is_right(element(PUBLIC), blinded, evaluation)
    assert voprf.finalize(message, scalar(BLIND), evaluation.element).hex() == vector["output"]
    assert voprf.direct(key, message).hex() == vector["output"]


@pytest.mark.parametrize("vector", RFC_9497)
def test_any_three_of_five_shares_of_the_key_give_the_output_of_rfc_9497(vector: dict[str, str]) -> None:
    message = bytes.fromhex(vector["input"])
    coefficients = [voprf.derive_key(bytes([number]) * 32, b"a coefficient") for number in (1, 2)]
    shares = threshold.split(scalar(SECRET), coefficients, 5)
    blinded = voprf.blind(message, scalar(BLIND))
    evaluated = {index: group.times(share, blinded) for index, share in shares.items()}
    for chosen in itertools.combinations(shares, 3):
        combined = threshold.combine({index: evaluated[index] for index in chosen})
        assert voprf.finalize(message, scalar(BLIND), combined).hex() == vector["output"]
    two = threshold.combine({index: evaluated[index] for index in (1, 2)})
    assert voprf.finalize(message, scalar(BLIND), two).hex() != vector["output"]


def test_an_answer_under_another_key_or_a_changed_one_is_found_out() -> None:
    blinded = element(RFC_9497[0]["blinded"])
    right = voprf.evaluate(scalar(SECRET), blinded, scalar(PROOF_RANDOM))
    other = voprf.evaluate(scalar(BLIND), blinded, scalar(PROOF_RANDOM))
    public = element(PUBLIC)
    assert not voprf.is_right(public, blinded, other)
    assert not voprf.is_right(public, blinded, Evaluation(element=other.element, proof=right.proof))
    assert not voprf.is_right(public, element(RFC_9497[1]["blinded"]), right)
    bent = Proof(challenge=right.proof.response, response=right.proof.challenge)
    assert not voprf.is_right(public, blinded, Evaluation(element=right.element, proof=bent))


@pytest.mark.parametrize(
    "raw",
    [
        bytes(32),  # the identity
        b"\1" * 31,
        b"\xff" * 32,  # not canonical
        bytes.fromhex("0100000000000000000000000000000000000000000000000000000000000000"),  # negative
        b"\2" + bytes(30) + b"\x80",
    ],
)
def test_what_is_no_element_is_not_taken_for_one(raw: bytes) -> None:
    with pytest.raises(ValueError, match="group element"):
        group.read_element(raw)


@pytest.mark.parametrize("raw", [bytes(32), b"\1" * 31, group.ORDER.to_bytes(32, "little"), b"\xff" * 32])
def test_what_is_no_scalar_is_not_taken_for_one(raw: bytes) -> None:
    with pytest.raises(ValueError, match="scalar"):
        group.read_scalar(raw)


def test_another_hpke_opens_what_we_seal_and_seals_what_we_open() -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    private, info = b"\7" * 32, b"what for"
    public = sealing.public_of(private)
    sealed = sealing.seal(public, info, b"a share", b"\x09" * 32)
    assert suite.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info=info) == b"a share"
    theirs = suite.encrypt(b"a share", X25519PublicKey.from_public_bytes(public), info=info)
    assert sealing.unseal(private, info, theirs) == b"a share"


@pytest.mark.parametrize("damage", ["info", "key", "bit", "short"])
def test_what_was_sealed_for_something_else_does_not_open(damage: str) -> None:
    private, info = b"\7" * 32, b"what for"
    sealed = bytearray(sealing.seal(sealing.public_of(private), info, b"a share", b"\x09" * 32))
    if damage == "bit":
        sealed[-1] ^= 1
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(
            b"\x08" * 32 if damage == "key" else private,
            b"something else" if damage == "info" else info,
            bytes(sealed[:20] if damage == "short" else sealed),
        )


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return found


def test_the_documented_set_follows_from_its_random_values(vectors: dict[str, Any]) -> None:
    purpose = Purpose(user_id=UserId(vectors["user_id"]), version=Version(vectors["version"]))
    stretched = client.stretched(purpose, vectors["pin"])
    assert stretched.hex() == vectors["stretched"]
    assert client.oprf_input(purpose, stretched).hex() == vectors["input"]
    coefficients = [scalar(each) for each in vectors["coefficients"]]
    names = [ServerName(each["realm"]) for each in vectors["realms"]]
    deals, publics, content_key = client.deal(purpose, stretched, scalar(vectors["key"]), coefficients, names)
    assert content_key.hex() == vectors["content_key"]
    header = {name: each for name, each in vectors["set"].items() if name not in ("iv", "ciphertext")}
    iv, locked = from_b64(vectors["set"]["iv"]), from_b64(vectors["set"]["ciphertext"])
    recovery_key = bytes.fromhex(vectors["recovery_key"])
    assert client.locked(content_key, header, iv, recovery_key) == locked
    assert client.unlocked(content_key, header, iv, locked) == recovery_key
    assert client.unlocked(content_key, {**header, "threshold": 2}, iv, locked) is None
    assert client.unlocked(bytes(32), header, iv, locked) is None
    assert header["kdf"] == client.KDF
    for each in vectors["realms"]:
        deal = deals[each["realm"]]
        assert (deal.share.hex(), deal.index) == (each["share"], each["index"])
        assert deal.unlock_key.hex() == each["unlock_key"]
        assert publics[each["realm"]].hex() == each["share_public"]
        realm_key = sealing.public_of(bytes.fromhex(each["private_key"]))
        assert realm_key.hex() == each["public_key"]
        assert client.sealed(deal, realm_key, bytes.fromhex(each["ephemeral"])) == each["sealed"]
        info = seal_info(deal.realm, deal.user_id, deal.version)
        plain = sealing.unseal(bytes.fromhex(each["private_key"]), info, from_b64(each["sealed"]))
        assert plain == canonical(deal.to_json())
        assert Deal.read(json.loads(plain)) == deal


def test_the_documented_recovery_follows_from_the_answers(vectors: dict[str, Any]) -> None:
    purpose = Purpose(user_id=UserId(vectors["user_id"]), version=Version(vectors["version"]))
    message, factor = bytes.fromhex(vectors["input"]), scalar(vectors["blind"])
    blinded = voprf.blind(message, factor)
    assert blinded.hex() == vectors["blinded"]
    answers: dict[int, Element] = {}
    for each in vectors["realms"]:
        evaluation = voprf.evaluate(scalar(each["share"]), blinded, scalar(each["proof_nonce"]))
        assert (evaluation.element.hex(), evaluation.proof.to_bytes().hex()) == (each["element"], each["proof"])
        assert voprf.is_right(element(each["share_public"]), blinded, evaluation)
        answers[each["index"]] = evaluation.element
    stretched = bytes.fromhex(vectors["stretched"])
    for chosen in itertools.combinations(answers, vectors["threshold"]):
        output = client.opened(purpose, stretched, factor, {index: answers[index] for index in chosen})
        assert output.hex() == vectors["output"]
    output = bytes.fromhex(vectors["output"])
    for each in vectors["realms"]:
        nonce = bytes.fromhex(each["nonce"])
        tag = client.tag(purpose, output, ServerName(each["realm"]), vectors["attempt_id"], nonce)
        assert tag.hex() == each["tag"]


@pytest.mark.parametrize(
    "change",
    [
        {"share": "AA"},
        {"share": "A" * 43},
        {"unlock_key": "AAAA"},
        {"realms": ["hs1.test", "hs1.test", "hs2.test", "hs3.test", "hs4.test"]},
        {"realms": ["hs1.test", "hs2.test"]},
        {"index": 2},
        {"threshold": 6},
        {"threshold": 1},
        {"more": 1},
    ],
)
def test_a_share_that_does_not_fit_together_is_refused(vectors: dict[str, Any], change: dict[str, Any]) -> None:
    each = vectors["realms"][0]
    info = seal_info(ServerName(each["realm"]), UserId(vectors["user_id"]), Version(vectors["version"]))
    plain = sealing.unseal(bytes.fromhex(each["private_key"]), info, from_b64(each["sealed"]))
    assert isinstance(Deal.read({**json.loads(plain), **change}), Refused)

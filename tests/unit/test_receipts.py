"""Receipts that prove themselves, and the command that checks them."""

import json
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.signing import canonical, generate_key, key_id_of, public_b64, signed, to_b64
from super_app.statements import proof
from super_app.statements.proof import KnownKey, ProofContent
from synapse_super_app.commands.main import main
from synapse_super_app.statements import pdf

KEY, OTHER_KEY = generate_key(b"1" * 32), generate_key(b"2" * 32)
SAID = {
    "type": proof.TYPE,
    "v": 1,
    "server": "hs1.test",
    "payment_id": "ab" * 16,
    "payer": "@alice:hs1.test",
    "payee": "@bob:hs2.test",
    "amount": 1_250,
    "currency": "EUR",
    "scale": 2,
    "outcome": "completed",
    "ordered_ms": 1_700_000_000_000,
}
PROOF = ProofContent.model_validate(signed(SAID, KEY))
KNOWN = KnownKey(server=ServerName("hs1.test"), key_id=key_id_of(KEY), public_b64=public_b64(KEY))


def word(fields: dict[str, object]) -> str:
    return proof.PREFIX + to_b64(canonical(fields))


def keys_file(folder: Path, server: str = "hs1.test", key: str | None = None) -> str:
    path = folder / "keys.json"
    known = [{"key_id": key_id_of(KEY), "public_key": key or public_b64(KEY)}]
    path.write_text(json.dumps({"server": server, "keys": known}))
    return str(path)


def test_what_was_signed_is_read_and_checked() -> None:
    read = proof.read(f"Thank you! {proof.word_of(PROOF)} .")
    assert read == PROOF
    assert proof.check(PROOF, [KNOWN]) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", 9_999), ("payee", "@eve:hs2.test"), ("currency", "USD"), ("scale", 1), ("ordered_ms", 1), ("v", 1)],
)
def test_whatever_is_changed_the_signature_is_bad(field: str, value: object) -> None:
    changed = proof.read(word({**signed(SAID, KEY), field: value}))
    assert isinstance(changed, ProofContent)
    refused = proof.check(changed, [KNOWN])
    if SAID[field] == value:
        assert refused is None
    else:
        assert refused is not None
        assert refused.reason is Reason.BAD_SIGNATURE


def test_a_key_that_is_not_known_proves_nothing() -> None:
    for said in (signed(SAID, OTHER_KEY), signed({**SAID, "server": "hs9.test"}, KEY)):
        refused = proof.check(ProofContent.model_validate(said), [KNOWN])
        assert refused is not None
        assert refused.reason is Reason.KEY_UNCONFIRMED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "superapp-receipt:",
        "superapp-receipt:!!",
        "superapp-receipt:e30",
        "superapp-receipt:" + "A" * 5_001,
    ],
)
def test_what_is_no_receipt_is_refused(text: str) -> None:
    refused = proof.read(text)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_pdf_is_checked_with_what_it_shows(language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = pdf.receipt_pdf(PROOF, "lunch", ZoneInfo("Europe/Berlin"), language)
    file = tmp_path / "receipt.pdf"
    file.write_bytes(content)
    assert main(["verify-receipt", str(file), "--keys", keys_file(tmp_path)]) == 0
    assert "@alice:hs1.test paid @bob:hs2.test 12.50 EUR" in capsys.readouterr().out
    # The page says more than what was signed.
    for shown, other in ((b"(12.50 EUR)", b"(92.50 EUR)"), (b"12.50", b"92.50"), (b"12,50", b"92,50")):
        if shown not in content:
            continue
        file.write_bytes(content.replace(shown, other))
        assert main(["verify-receipt", str(file), "--keys", keys_file(tmp_path)]) == 1
        assert "proves another amount: 12.50 EUR" in capsys.readouterr().err


@pytest.mark.parametrize(("currency", "shown"), [("INR", "12.50 INR"), ("UAH", "12.50"), ("ILS", "12.50 ILS")])
def test_a_currency_whose_sign_the_fonts_lack_is_shown_by_its_code_and_checked(
    currency: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "receipt.pdf"
    said = ProofContent.model_validate(signed({**SAID, "currency": currency}, KEY))
    for language in ("en", "de"):
        file.write_bytes(pdf.receipt_pdf(said, None, ZoneInfo("Europe/Berlin"), language))
        assert main(["verify-receipt", str(file), "--keys", keys_file(tmp_path), "--amount", f"12.50 {currency}"]) == 0
        assert f"12.50 {currency}" in capsys.readouterr().out
        texts = pdf.texts_of(file.read_bytes())
        assert not any("?" in text for text in texts)
        assert language != "en" or any(shown in text for text in texts)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = proof.word_of(PROOF)
    forged = word({**signed(SAID, KEY), "amount": 9_999})
    keys = keys_file(tmp_path)
    for receipt, more, code, said in (
        (text, ["--amount", "12.50 EUR"], 0, "12.50 EUR"),
        (text, ["--amount", "12.51 EUR"], 1, "another amount: 12.50 EUR, and not 12.51 EUR"),
        (forged, [], 1, "signature is not that of hs1.test"),
        (str(tmp_path / "nothing"), [], 1, "cannot be read"),
        (keys, [], 1, "nothing to check"),
    ):
        assert main(["verify-receipt", receipt, "--keys", keys, *more]) == code
        answered = capsys.readouterr()
        assert said in answered.out + answered.err
    assert main(["verify-receipt", text, "--keys", keys_file(tmp_path, "hs2.test")]) == 1
    assert "not among the keys" in capsys.readouterr().err
    assert main(["verify-receipt", text, "--keys", keys_file(tmp_path, key=public_b64(OTHER_KEY))]) == 1
    assert "signature is not that of hs1.test" in capsys.readouterr().err
    (tmp_path / "keys.json").write_text("[]")
    assert main(["verify-receipt", text, "--keys", str(tmp_path / "keys.json")]) == 1
    assert "holds no keys" in capsys.readouterr().err


def test_the_code_of_a_receipt_is_as_long_as_a_camera_still_reads() -> None:
    longest = {**SAID, "payer": f"@{'a' * 120}:{'b' * 60}", "payee": f"@{'c' * 120}:{'d' * 60}", "refund_of": "0" * 32}
    text = proof.word_of(ProofContent.model_validate(signed({**longest, "payee_receipt": "x" * 43}, KEY)))
    assert len(text) < 1_600
    assert re.fullmatch(r"[A-Za-z0-9_:-]+", text)

"""``super-app verify-receipt``: whether a receipt is what a homeserver signed. Asks no network and no database."""

import argparse
import datetime as dt
import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from super_app.errors import Refused
from super_app.ids import ServerName
from super_app.money import format_money
from super_app.names import CLIENT_API_PREFIX
from super_app.statements import proof
from super_app.statements.proof import KnownKey, ProofContent
from super_app.statements.words import WORDS
from super_app.wire import OpenWireModel
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.statements.pdf import shown_amount, texts_of

_PDF = b"%PDF-"
_LONGEST = 10_000_000


class _Key(OpenWireModel):
    key_id: str
    public_key: str


class _Keys(OpenWireModel):
    """What ``GET receipts/keys`` answers."""

    server: Annotated[str, Field(min_length=1, max_length=255)]
    keys: list[_Key]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "verify-receipt",
        help="check the signed proof of a receipt, offline",
        description="Check a receipt: the PDF, a file with its text, or the text itself as the QR code holds it.",
    )
    parser.add_argument("receipt", metavar="FILE|TEXT", help=f"a PDF, a text file, or {proof.PREFIX}…")
    parser.add_argument(
        "--keys",
        metavar="FILE",
        action="append",
        required=True,
        help="keys that you trust, as the homeserver gives them at receipts/keys; may be given several times",
    )
    parser.add_argument("--amount", metavar="AMOUNT", help="what you expect, such as '12.50 EUR'")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    keys = [key for name in arguments.keys for key in _read_keys(Path(name))]
    content = _read(arguments.receipt)
    said = proof.read(content.decode("utf-8", errors="replace"))
    if isinstance(said, Refused):
        raise CommandFailed(f"verify-receipt: {said.message}")
    refused = proof.check(said, keys) or _judge_amount(said, content, arguments.amount)
    if refused is not None:
        raise CommandFailed(f"verify-receipt: {refused.message}")
    print(f"{said.server} says, signed with {said.key_id}:")
    print(f"  {said.payer} paid {said.payee} {format_money(said.amount, said.asset)}")
    if said.refund_of is not None:
        print(f"  as a refund of payment {said.refund_of}")
    print(f"  payment {said.payment_id}, ordered {_time(said.ordered_ms)}")
    return 0


def _read(receipt: str) -> bytes:
    if receipt.startswith(proof.PREFIX):
        return receipt.encode()
    path = Path(receipt)
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise CommandFailed(f"verify-receipt: {receipt[:200]} cannot be read: {error.strerror}") from None


def _judge_amount(said: ProofContent, content: bytes, expected: str | None) -> Refused | None:
    """Whether what is shown beside the proof, or what the person expects, is what was signed."""
    signed = format_money(said.amount, said.asset)
    if expected is not None and " ".join(expected.split()) != signed:
        return proof.other_amount(said, signed, " ".join(expected.split()))
    if not content.startswith(_PDF):
        return None
    texts = texts_of(content)
    if signed in texts and any(shown_amount(said, language) in texts for language in WORDS):
        return None
    return proof.other_amount(said, signed, "what this PDF shows")


def _read_keys(path: Path) -> list[KnownKey]:
    try:
        found = _Keys.parse(json.loads(path.read_bytes()))
    except OSError as error:
        raise CommandFailed(f"verify-receipt: --keys {path} cannot be read: {error.strerror}") from None
    except ValueError:
        found = None
    if found is None or isinstance(found, Refused):
        raise CommandFailed(
            f"verify-receipt: --keys {path} holds no keys; get them once from https://HOMESERVER"
            f"{CLIENT_API_PREFIX}/receipts/keys and keep them"
        )
    return [
        KnownKey(server=ServerName(found.server), key_id=each.key_id, public_b64=each.public_key) for each in found.keys
    ]


def _time(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

"""Writes docs/recovery-vectors.json: one set of shares of fixed random values, and one recovery from it.

Both implementations are tested against that file, ours in Python and the page's in TypeScript, and others can be.

    .venv/bin/python tools/recovery_vectors.py
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from super_app.ids import ServerName, UserId
from super_app.recovery import client, group, sealing, voprf
from super_app.recovery.client import Purpose
from super_app.recovery.group import Scalar
from super_app.recovery.model import Version
from super_app.signing import to_b64

DOCUMENT = Path(__file__).parents[1] / "docs" / "recovery-vectors.json"
PIN = "482915"
REALMS = tuple(ServerName(f"hs{number}.test") for number in range(1, 6))


def drawn(label: str) -> bytes:
    """64 bytes that stand for random ones."""
    return hashlib.sha512(b"recovery vectors " + label.encode()).digest()


def scalar(label: str) -> Scalar:
    return group.scalar_from_wide(drawn(label))


def made() -> dict[str, Any]:
    purpose = Purpose(user_id=UserId("@alice:hs1.test"), version=Version(7))
    stretched = client.stretched(purpose, PIN)
    key, coefficients, factor = scalar("key"), [scalar("first"), scalar("second")], scalar("blind")
    deals, publics, content_key = client.deal(purpose, stretched, key, coefficients, REALMS)
    message = client.oprf_input(purpose, stretched)
    blinded = voprf.blind(message, factor)
    attempt_id = drawn("attempt")[:16].hex()
    realms: list[dict[str, Any]] = []
    for realm in REALMS:
        private = drawn(f"{realm} key")[:32]
        evaluation = voprf.evaluate(deals[realm].share, blinded, scalar(f"{realm} proof"))
        output = voprf.direct(key, message)
        nonce = drawn(f"{realm} nonce")[:32]
        ephemeral = drawn(f"{realm} ephemeral")[:32]
        realms.append(
            {
                "realm": realm,
                "private_key": private.hex(),
                "public_key": sealing.public_of(private).hex(),
                "ephemeral": ephemeral.hex(),
                "index": deals[realm].index,
                "share": deals[realm].share.hex(),
                "share_public": publics[realm].hex(),
                "unlock_key": deals[realm].unlock_key.hex(),
                "sealed": client.sealed(deals[realm], sealing.public_of(private), ephemeral),
                "proof_nonce": scalar(f"{realm} proof").hex(),
                "element": evaluation.element.hex(),
                "proof": evaluation.proof.to_bytes().hex(),
                "nonce": nonce.hex(),
                "tag": client.tag(purpose, output, realm, attempt_id, nonce).hex(),
            }
        )
    iv, recovery_key = drawn("iv")[:12], drawn("recovery key")[:32]
    header: dict[str, object] = {
        "version": purpose.version,
        "threshold": 3,
        "kdf": client.KDF,
        "key_id": "abcDEF123",
        "made_ms": 1_700_000_000_000,
        "realms": [
            {"server": realm, "operator": f"The people of {realm}", "public_key": to_b64(publics[realm])}
            for realm in REALMS
        ],
    }
    locked = client.locked(content_key, header, iv, recovery_key)
    return {
        "recovery_key": recovery_key.hex(),
        "set": {**header, "iv": to_b64(iv), "ciphertext": to_b64(locked)},
        "user_id": purpose.user_id,
        "version": purpose.version,
        "pin": PIN,
        "threshold": 3,
        "key": key.hex(),
        "coefficients": [each.hex() for each in coefficients],
        "blind": factor.hex(),
        "attempt_id": attempt_id,
        "stretched": stretched.hex(),
        "input": message.hex(),
        "blinded": blinded.hex(),
        "output": voprf.direct(key, message).hex(),
        "content_key": content_key.hex(),
        "realms": realms,
    }


if __name__ == "__main__":
    DOCUMENT.write_text(json.dumps(made(), indent=1) + "\n", encoding="utf-8")

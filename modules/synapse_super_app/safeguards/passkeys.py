"""WebAuthn (W3C, level 2) by py_webauthn: registers passkeys, and checks the signatures with which they confirm.

The relying party is the host of ``public_baseurl``, and pages of its origin alone may ask. For every answer the device
has to have verified the person. What a challenge is for is decided in ``super_app.safeguards.passkeys``.
"""

import ipaddress
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct, UserId
from super_app.safeguards import passkey_store as store
from super_app.safeguards import passkeys
from super_app.safeguards.model import Challenge, Passkey
from super_app.signing import from_b64, to_b64
from super_app.wire import is_text
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime

_CHALLENGE_BYTES: Final = 32
_LOOPBACK: Final = "127.0.0.1"
_LOCALHOST: Final = "localhost"
_CREDENTIAL_MAX: Final = 16_384
"""Characters of an answer; those of real devices have a few thousand."""


class Passkeys:
    def __init__(self, runtime: Runtime, writer: LedgerWriter) -> None:
        self._runtime = runtime
        self._writer = writer
        parts = urlsplit(runtime.api.public_baseurl)
        host, netloc = parts.hostname or "", parts.netloc
        if host == _LOOPBACK:
            # A homeserver to try out: browsers take no address, and this name for it.
            host, netloc = _LOCALHOST, netloc.replace(_LOOPBACK, _LOCALHOST)
        self._rp_id = host
        self._origin = f"{parts.scheme}://{netloc}"

    async def begin(self, acct: Acct, user_id: UserId) -> dict[str, Any] | Refused:
        """What a browser needs to make a new passkey: ``PublicKeyCredentialCreationOptions``."""
        asked = await self._challenge(acct, passkeys.NEW_PASSKEY)
        if isinstance(asked, Refused):
            return asked
        fresh, known = asked
        options = webauthn.generate_registration_options(
            rp_id=self._rp_id,
            rp_name=self._runtime.server_name,
            user_name=user_id,
            user_id=acct.encode(),
            challenge=from_b64(fresh.challenge),
            timeout=passkeys.CHALLENGE_MS,
            attestation=AttestationConveyancePreference.NONE,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.DISCOURAGED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=_descriptors(known),
        )
        return _json(webauthn.options_to_json(options))

    async def register(self, acct: Acct, name: str, answer: Mapping[str, Any]) -> Passkey | Refused:
        challenge = await self._take(acct, answer, passkeys.NEW_PASSKEY)
        if isinstance(challenge, Refused):
            return challenge
        try:
            verified = await self._runtime.api.defer_to_thread(
                lambda: webauthn.verify_registration_response(
                    credential=dict(answer),
                    expected_challenge=challenge,
                    expected_rp_id=self._rp_id,
                    expected_origin=self._origin,
                    require_user_verification=True,
                )
            )
        except (WebAuthnException, ValueError, KeyError, TypeError):
            return passkeys.refused("That device's answer is not one of WebAuthn for this homeserver; try again.")
        now_ms = self._runtime.now_ms()
        passkey = Passkey(
            credential_id=to_b64(verified.credential_id),
            public_key=to_b64(verified.credential_public_key),
            sign_count=verified.sign_count,
            name=name,
            created_ms=now_ms,
        )
        refused = await self._writer.run("passkey_add", lambda cur: passkeys.add(cur, acct, passkey))
        return refused or passkey

    async def ask(self, acct: Acct, about: str) -> dict[str, Any] | Refused:
        """What a browser needs to have a payment confirmed: ``PublicKeyCredentialRequestOptions``."""
        asked = await self._challenge(acct, about)
        if isinstance(asked, Refused):
            return asked
        fresh, known = asked
        options = webauthn.generate_authentication_options(
            rp_id=self._rp_id,
            challenge=from_b64(fresh.challenge),
            timeout=passkeys.CHALLENGE_MS,
            allow_credentials=_descriptors(known),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return _json(webauthn.options_to_json(options))

    async def prove(self, acct: Acct, answer: Mapping[str, Any], about: str) -> Refused | None:
        """None if one of the person's passkeys has signed just this."""
        challenge = await self._take(acct, answer, about)
        if isinstance(challenge, Refused):
            return challenge
        credential_id = str(answer.get("id"))
        passkey = None
        if is_text(credential_id):
            passkey = await self._runtime.database.run("passkey", lambda cur: store.find(cur, acct, credential_id))
        if passkey is None:
            return passkeys.refused("That passkey is none of your wallet's; use another, or your PIN.")
        try:
            verified = await self._runtime.api.defer_to_thread(
                lambda: webauthn.verify_authentication_response(
                    credential=dict(answer),
                    expected_challenge=challenge,
                    expected_rp_id=self._rp_id,
                    expected_origin=self._origin,
                    credential_public_key=from_b64(passkey.public_key),
                    # It refuses a count that has not risen: then there is a copy of the device's key.
                    credential_current_sign_count=passkey.sign_count,
                    require_user_verification=True,
                )
            )
        except (WebAuthnException, ValueError, KeyError, TypeError):
            return passkeys.refused(
                "The passkey's signature is not right for this payment; try again, or use your PIN."
            )
        now_ms, count = self._runtime.now_ms(), verified.new_sign_count
        return await self._writer.run("passkey_used", lambda cur: passkeys.used(cur, acct, passkey, count, now_ms))

    async def _challenge(self, acct: Acct, about: str) -> tuple[Challenge, tuple[Passkey, ...]] | Refused:
        if not self._rp_id or _is_address(self._rp_id):
            return passkeys.refused("Passkeys need a homeserver with a name, and this one is reached by an address.")
        now_ms = self._runtime.now_ms()
        fresh = Challenge(
            challenge=to_b64(secrets.token_bytes(_CHALLENGE_BYTES)),
            about=about,
            expires_ms=now_ms + passkeys.CHALLENGE_MS,
        )
        known = await self._writer.run("passkey_ask", lambda cur: passkeys.challenge(cur, acct, fresh, now_ms))
        return known if isinstance(known, Refused) else (fresh, known)

    async def _take(self, acct: Acct, answer: Mapping[str, Any], about: str) -> bytes | Refused:
        """The challenge that the answer says to answer, which counts no second time."""
        named = _challenge_in(answer)
        if named is None:
            return passkeys.refused("That is no answer of a passkey; try again.")
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> Refused | None:
            return passkeys.take(cur, acct, named, about, now_ms)

        return await self._writer.run("passkey_take", work) or from_b64(named)


def _challenge_in(answer: Mapping[str, Any]) -> str | None:
    """What the signed part of an answer says. The library compares it, and all around it, once more."""
    try:
        if len(json.dumps(answer)) > _CREDENTIAL_MAX:
            return None
        client = json.loads(from_b64(answer["response"]["clientDataJSON"].rstrip("=")))
        named = client["challenge"]
        return named if isinstance(named, str) and len(from_b64(named)) == _CHALLENGE_BYTES else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _descriptors(known: tuple[Passkey, ...]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=from_b64(each.credential_id)) for each in known]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found

"""The payment key of this homeserver, and clearing built on it.

The key is a file beside the homeserver's signing key, made at the first start and readable by its owner only. It is
apart from the Matrix key, which certifies it: who holds one of them cannot sign for the other.
"""

import secrets
from pathlib import Path

from nacl.signing import SigningKey

from super_app.clearing import objects
from super_app.clearing.model import JsonObject
from super_app.clearing.ports import Payee, Payer
from super_app.clearing.service import Clearing
from synapse_super_app import key_files
from synapse_super_app.runtime import Runtime


def build_clearing(runtime: Runtime, *, payee: Payee, payer: Payer) -> Clearing:
    """Clearing as this process runs it, before its first tenure. Makes the payment key if there is none yet.

    Raises:
        OSError: the key cannot be read or made; the message names its path.
        ValueError: the file is no key file.
    """
    config = runtime.config.payments
    key_files.make_if_missing(_path(runtime))
    key, certificate, retired = payment_keys(runtime)
    return Clearing(
        server=runtime.server_name,
        key=key,
        retired=retired,
        certificate=certificate,
        boot=fresh_boot(),
        assets=config.by_code(),
        payee=payee,
        payer=payer,
    )


def fresh_boot() -> str:
    """The name of a tenure of the ledger's writer, which no other tenure has had."""
    return secrets.token_urlsafe(12)


def payment_keys(runtime: Runtime) -> tuple[SigningKey, JsonObject, tuple[SigningKey, ...]]:
    """The payment key as its file holds it now, its certificate, and the keys that it replaced.

    Raises:
        OSError, ValueError: as ``build_clearing``.
    """
    path = _path(runtime)
    key = key_files.read(path)
    certificate = runtime.private.signed_by_server(objects.certificate_fields(runtime.server_name, key))
    return key, certificate, key_files.read_retired(path)


def replace_key(runtime: Runtime, request_id: str) -> None:
    """A new payment key in the file, once for each request. The one before is kept, since links still sign with it.

    Raises:
        OSError, ValueError: as ``build_clearing``; the key that was there is still there.
    """
    key_files.replace(_path(runtime), request_id)


def _path(runtime: Runtime) -> Path:
    return key_path(runtime.private.key_folder(), runtime.server_name, runtime.config.payments.key_path)


def key_path(folder: Path, server: str, configured: str | None) -> Path:
    return Path(configured) if configured is not None else folder / f"{server}.superapp.payment.key"

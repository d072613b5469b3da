"""What a backup holds beside the databases: the keys and secrets without which they are of no use."""

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from super_app.ids import ServerName
from synapse_super_app import key_files
from synapse_super_app.commands import config_checks
from synapse_super_app.commands.homeserver_config import SECRET_KEYS, HomeserverConfig

MANIFEST: Final = "manifest.json"
CONFIG: Final = "homeserver.yaml"
FORMAT: Final = 1
_CHUNK_BYTES: Final = 1 << 20


def key_files_of(config: HomeserverConfig) -> Iterator[tuple[str, Path]]:
    """Name in a backup and place here of every key and secret that the config names, as far as they exist."""
    from synapse_super_app.clearing import identity  # these two import Synapse, which takes seconds
    from synapse_super_app.recovery import keys as recovery_keys

    module = config_checks.parsed_module_config(config)
    server = ServerName(str(config.content.get("server_name", "")))
    signing_key = config.path_at("signing_key_path")
    folder = config.folder if signing_key is None else signing_key.parent
    payment = identity.key_path(folder, server, module.payments.key_path)
    places = {key: path for key in ("signing_key_path", *SECRET_KEYS) if (path := config.path_at(key)) is not None}
    places["payment.key"] = config.resolve(str(payment))
    places["directory.key"] = config.resolve(str(key_files.key_path(folder, server, module.directory.key_path)))
    places["recovery.key"] = config.resolve(str(recovery_keys.key_path(folder, server, module.recovery.key_path)))
    yield from ((name, path) for name, path in places.items() if path.exists())
    kept = places["payment.key"]
    for path in sorted(kept.parent.glob(f"{glob.escape(kept.name)}.retired-*")):
        yield f"payment.key{path.name.removeprefix(kept.name)}", path


def place_of(config: HomeserverConfig, name: str) -> Path:
    """Where a key or secret of a backup belongs, as the config says."""
    from synapse_super_app.clearing import identity  # as above
    from synapse_super_app.recovery import keys as recovery_keys

    module = config_checks.parsed_module_config(config)
    server = ServerName(str(config.content.get("server_name", "")))
    signing_key = config.path_at("signing_key_path")
    folder = config.folder if signing_key is None else signing_key.parent
    if name.startswith("payment.key"):
        payment = config.resolve(str(identity.key_path(folder, server, module.payments.key_path)))
        return payment.with_name(payment.name + name.removeprefix("payment.key"))
    if name == "directory.key":
        return config.resolve(str(key_files.key_path(folder, server, module.directory.key_path)))
    if name == "recovery.key":
        return config.resolve(str(recovery_keys.key_path(folder, server, module.recovery.key_path)))
    place = config.path_at(name)
    if place is None:
        raise KeyError(name)
    return place


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

"""The config file, the files that it names, and the disk they are on."""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from synapse_super_app.commands import config_checks
from synapse_super_app.commands.checkup.findings import Finding, bad, good, warning
from synapse_super_app.commands.config_checks import Weight
from synapse_super_app.commands.homeserver_config import SECRET_KEYS, HomeserverConfig
from synapse_super_app.config import Config

_LITTLE_SPACE_BYTES: Final = 1 << 30
_NO_SPACE_BYTES: Final = 100 << 20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def look(config: HomeserverConfig) -> Iterator[Finding]:
    found = config_checks.findings(config)
    for each in found:
        key, _, what = each.line.partition(": ")
        what, _, remedy = what.rpartition("; ")
        make = bad if each.weight is Weight.REFUSE else warning
        yield make(f"config.{key}", f"{key}: {what}" if what else each.line, remedy if what else "")
    if not found:
        yield good("config", f"{config.path.name} has nothing to complain about")


def look_at_files(config: HomeserverConfig, module: Config) -> Iterator[Finding]:
    """Keys and secrets that only their owner may read, the kill switch, room on the disk."""
    yield from _secrets(config, module)
    halt_file = module.payments.halt_file
    if module.features.payments and halt_file is not None and config.resolve(halt_file).exists():
        yield warning(
            "payments.halted",
            f"payments.halt_file: {halt_file} exists, so no new payment starts",
            "delete it when payments may go on",
        )
    yield from _space(config.data_folder())


def _secrets(config: HomeserverConfig, module: Config) -> Iterator[Finding]:
    named: dict[str, Path] = {}
    for key in ("signing_key_path", *SECRET_KEYS):
        if (path := config.path_at(key)) is not None:
            named[key] = path
    ours: dict[str, Any] = {
        "directory.key_path": module.directory.key_path,
        "payments.key_path": module.payments.key_path,
        "calls.turn_secret_path": module.calls.turn_secret_path,
        "calls.turn_cli_password_path": module.calls.turn_cli_password_path,
        "calls.livekit.secret_path": None if module.calls.livekit is None else module.calls.livekit.secret_path,
    }
    named |= {key: config.resolve(path) for key, path in ours.items() if path is not None}
    signing = named.get("signing_key_path")
    if signing is not None:
        # Our own keys lie beside it unless they are named.
        for path in sorted(signing.parent.glob("*.superapp.*.key*")):
            named.setdefault(path.name, path)
    unsafe = False
    for key, path in named.items():
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            unsafe = True
            yield bad(f"files.{key}", f"{key}: there is no {path}", "put it back from a backup, or correct the path")
            continue
        except OSError as error:
            unsafe = True
            yield bad(f"files.{key}", f"{key}: {path} cannot be looked at: {error.strerror}", "run this as its owner")
            continue
        if mode & _OTHERS:
            unsafe = True
            yield bad(f"files.{key}", f"{key}: {path} can be read by others on this machine", f"chmod 600 {path}")
    if named and not unsafe:
        yield good("files", f"{len(named)} key and secret files are there, for their owner alone")


def _space(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield bad("disk", f"there is no {folder}", "start the homeserver once with super-app up, which makes it")
        return
    free = shutil.disk_usage(folder).free
    line = f"{free // (1 << 20):,} MiB are free where {folder.name}/ is"
    if free < _NO_SPACE_BYTES:
        yield bad("disk", line, "make room now: a database that cannot grow refuses payments, and chat")
    elif free < _LITTLE_SPACE_BYTES:
        yield warning("disk", line, "make room soon")
    else:
        yield good("disk", line)

"""The files that a homeserver needs before its first start: folders, keys, secrets, and how it logs.

It makes what is missing, never changes what is there, and refuses to make a new identity for an old database.
"""

import base64
import fcntl
import os
import secrets
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.homeserver_config import SECRET_KEYS, HomeserverConfig

_LOCK: Final = "super-app.lock"

# Everything to a file that turns over at midnight; what an operator should see also to the console.
_LOG_CONFIG: Final = """\
version: 1
disable_existing_loggers: false
formatters:
  precise:
    format: '%(asctime)s - %(name)s - %(lineno)d - %(levelname)s - %(request)s - %(message)s'
handlers:
  file:
    class: logging.handlers.TimedRotatingFileHandler
    formatter: precise
    filename: {path}
    when: midnight
    backupCount: 7
    encoding: utf8
  buffer:
    class: synapse.logging.handlers.PeriodicallyFlushingMemoryHandler
    target: file
    capacity: 10
    flushLevel: 30
    period: 5
loggers:
  # DEBUG here would write access tokens into the log.
  synapse.storage.SQL:
    level: INFO
root:
  level: INFO
  handlers: [buffer]
"""


def prepare(config: HomeserverConfig, *, has_accounts: bool) -> list[Path]:
    """Make the folders and whatever key, secret or log config is missing; the files that were made.

    ``has_accounts`` says that the database is in use, so that its signing key cannot just be made anew.

    Raises:
        CommandFailed: a folder cannot be written, or the signing key of a database in use is gone.
    """
    for folder in _folders(config):
        make_writable(folder)
    made = [path for key in SECRET_KEYS if (path := config.path_at(key)) is not None and _make_secret(path)]
    signing_key = config.path_at("signing_key_path")
    if signing_key is not None and not signing_key.exists():
        if has_accounts:
            raise CommandFailed(
                f"signing_key_path: {signing_key} is gone, but the database is in use and other homeservers know its "
                "key; put the file back from your backup"
            )
        make_signing_key(signing_key)
        made.append(signing_key)
    log_config = config.path_at("log_config")
    if log_config is not None and not log_config.exists():
        write_log_config(log_config, log_config.parent / "homeserver.log")
        made.append(log_config)
    return made


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the data folder, so that no second ``super-app`` runs on the same files. The lock goes with the process.

    Raises:
        CommandFailed: another one holds it.
    """
    # The lock file stays: unlinking it would let two processes lock two files of one name.
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode("ascii", errors="replace").strip() or "unknown"
            raise CommandFailed(
                f"{folder} is in use by another super-app (process {holder}); stop that one, or use --data DIR"
            ) from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def make_writable(folder: Path, *, mode: int = 0o700) -> None:
    """Make a folder, for its owner only, unless it is there, and make sure that files can be made in it."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CommandFailed(
            f"cannot write to the folder {folder}: {error.strerror}; give it to the user who runs this, "
            "or choose another with --data DIR"
        ) from None


def write_log_config(path: Path, log: Path) -> None:
    """How a process logs to ``log``."""
    path.write_text(_LOG_CONFIG.format(path=log), encoding="utf-8")


def _folders(config: HomeserverConfig) -> list[Path]:
    media = config.path_at("media_store_path")
    files = [*config.sqlite_files(), config.path_at("pid_file"), config.path_at("signing_key_path")]
    files += [config.path_at("log_config"), *(config.path_at(key) for key in SECRET_KEYS)]
    folders = [config.data_folder(), *(path.parent for path in files if path is not None)]
    return list(dict.fromkeys([*folders, *([media] if media is not None else [])]))


def _make_secret(path: Path) -> bool:
    if path.exists():
        return False
    write_private(path, secrets.token_urlsafe(48) + "\n")
    return True


def make_signing_key(path: Path) -> None:
    """Write a new one, for its owner alone; Synapse's own would be readable by everyone."""
    # The form of signedjson: algorithm, version, and the seed as unpadded base64.
    seed = base64.b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")
    write_private(path, f"ed25519 a_{secrets.token_hex(2)} {seed}\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that is not there, for its owner alone."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)

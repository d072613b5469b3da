"""The homeserver's config file as the command line sees it: read, overridden, asked. Starts nothing."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import yaml

from synapse_super_app.commands.console import CommandFailed

DEFAULT_PATH: Final = Path("homeserver.yaml")
MODULE: Final = "synapse_super_app.SuperApp"
DATA_PREFIX: Final = "data/"
"""Paths in the file that begin so lie in the data folder, which ``--data`` puts elsewhere."""

SECRET_KEYS: Final = ("registration_shared_secret_path", "macaroon_secret_key_path", "form_secret_path")
_PATH_KEYS: Final = (*SECRET_KEYS, "signing_key_path", "pid_file", "media_store_path", "log_config")
_DEFAULT_ADDRESSES: Final = ("::", "0.0.0.0")  # noqa: S104 - Synapse's default, here to check that the port is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One TCP listener of Synapse."""

    port: int
    addresses: tuple[str, ...]
    tls: bool
    serves_clients: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeserverConfig:
    """``content`` is what was read; ``folder`` is what its relative paths are relative to."""

    path: Path
    folder: Path
    content: Mapping[str, Any]
    is_one_file: bool = True
    """Whether ``path`` alone says all of ``content``."""

    def listeners(self) -> Iterator[Listener]:
        for raw in _mappings(self.content.get("listeners")):
            if not isinstance(raw.get("port"), int):
                continue
            one = raw.get("bind_address")
            many = raw.get("bind_addresses")
            addresses = tuple(map(str, many)) if isinstance(many, list) else (str(one),) if one else _DEFAULT_ADDRESSES
            names = [name for resource in _mappings(raw.get("resources")) for name in resource.get("names", [])]
            yield Listener(
                port=raw["port"],
                addresses=addresses,
                tls=bool(raw.get("tls", False)),
                serves_clients=raw.get("type") == "http" and "client" in names,
            )

    def client_url(self) -> str:
        """Where clients on this machine reach it; plain HTTP if it can be had."""
        serving = sorted((each for each in self.listeners() if each.serves_clients), key=lambda each: each.tls)
        if not serving:
            raise CommandFailed(
                "listeners: none serves clients on a port; add {port: 8008, type: http, bind_addresses: [127.0.0.1], "
                "resources: [{names: [client, federation]}]}"
            )
        chosen = serving[0]
        anywhere = {"::": "localhost", "0.0.0.0": "localhost", "127.0.0.1": "localhost", "::1": "localhost"}  # noqa: S104
        host = anywhere.get(chosen.addresses[0], chosen.addresses[0])
        return f"{'https' if chosen.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{chosen.port}"

    def module_entries(self) -> list[Mapping[str, Any]]:
        """The entries of ``modules`` that are ours; there should be one."""
        return [entry for entry in _mappings(self.content.get("modules")) if entry.get("module") == MODULE]

    def databases(self) -> dict[str, Mapping[str, Any]]:
        """By the key that a person would look for: ``database``, or ``databases.main`` and so on."""
        many = self.content.get("databases")
        if isinstance(many, dict):
            return {f"databases.{name}": each for name, each in cast(dict[str, Any], many).items()}
        one = self.content.get("database")
        return {"database": cast(Mapping[str, Any], one)} if isinstance(one, dict) else {}

    def resolve(self, path: str) -> Path:
        return self.folder / path

    def path_at(self, key: str) -> Path | None:
        """The path under a top-level key, or None if the key is not set."""
        value = self.content.get(key)
        return self.resolve(value) if isinstance(value, str) and value else None

    def sqlite_files(self) -> list[Path]:
        found = [database.get("args", {}).get("database") for database in self.databases().values()]
        return [self.resolve(name) for name in found if isinstance(name, str) and not name.startswith(":")]

    def data_folder(self) -> Path:
        """The folder that stands for this homeserver: where its SQLite file is, else its pid file, else its media."""
        beside = [*self.sqlite_files(), self.path_at("pid_file"), self.path_at("media_store_path")]
        return next((path.parent for path in beside if path is not None), self.folder)


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--config``, as Synapse has it: several files, of which later ones overrule, and folders of them."""
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        metavar="FILE",
        help="default: homeserver.yaml; may be given several times, and may be a folder of .yaml files",
    )


def given(arguments: argparse.Namespace) -> HomeserverConfig:
    """The config that the command line names."""
    chosen: list[Path] | None = arguments.config
    return load(*(path.absolute() for path in chosen or [DEFAULT_PATH]))


def load(*paths: Path) -> HomeserverConfig:
    """Read config files, or folders of them, as Synapse does: a top-level key in a later one replaces an earlier one.

    Raises:
        CommandFailed: there is none, or one is no YAML mapping.
    """
    found = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    if not found:
        raise CommandFailed(f"there is no .yaml file in {paths[0]}; name one with --config FILE")
    content: dict[str, Any] = {}
    for file in found:
        content |= _read(file)
    return HomeserverConfig(path=found[0], folder=found[0].parent, content=content, is_one_file=len(found) == 1)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandFailed(
            f"there is no {path}; run this where homeserver.yaml is, or name the file with --config FILE"
        ) from None
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise CommandFailed(f"{path}{where} is not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise CommandFailed(f"{path} must be a mapping of keys, as homeserver.yaml of this project is")
    return cast(dict[str, Any], content)


def overridden(
    config: HomeserverConfig, *, data: Path | None = None, port: int | None = None, server_name: str | None = None
) -> HomeserverConfig:
    """The config with the values of the command line in it. Nothing is written yet; see ``write_copy``."""
    content = dict(config.content)
    if port is not None:
        content = _with_port(config, content, port)
    if server_name is not None:
        content["server_name"] = server_name
    if data is not None:
        if not _names_data(content):
            raise CommandFailed(
                f"--data: {config.path} keeps nothing under {DATA_PREFIX}, so there is nothing to move; edit its paths"
            )
        content = cast(dict[str, Any], _moved(content, data))
    return replace(config, content=content, is_one_file=False)


def write_copy(config: HomeserverConfig, path: Path) -> HomeserverConfig:
    """Write the config for Synapse to read.

    The paths that we know of are absolute in it, so that it can be read from its new place. Any other relative path
    stays relative to the folder of the original, where Synapse is started.
    """
    content = cast(dict[str, Any], _moved(dict(config.content), config.folder / DATA_PREFIX))
    content |= {key: str(found) for key in _PATH_KEYS if (found := config.path_at(key)) is not None}
    path.touch(mode=0o600)
    head = f"# Written by super-app up at every start from {config.path}: edit that one.\n"
    path.write_text(head + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return replace(config, path=path, content=content, is_one_file=True)


def _with_port(config: HomeserverConfig, content: dict[str, Any], port: int) -> dict[str, Any]:
    old = next((each.port for each in config.listeners() if each.serves_clients), None)
    if old is None:
        raise CommandFailed("--port: no listener in the config serves clients")

    listeners = [{**raw, "port": port} if raw.get("port") == old else raw for raw in _mappings(content["listeners"])]
    # URLs of this machine name the port too. A public URL is that of a reverse proxy and stays.
    urls = {
        key: value.replace(f"//localhost:{old}/", f"//localhost:{port}/")
        for key in ("public_baseurl", "web_client_location")
        if isinstance(value := content.get(key), str)
    }
    return {**content, **urls, "listeners": listeners}


def _names_data(value: object) -> bool:
    match value:
        case dict():
            return any(_names_data(item) for item in cast(dict[str, object], value).values())
        case list():
            return any(_names_data(item) for item in cast(list[object], value))
        case str():
            return value.removeprefix("./").startswith(DATA_PREFIX)
        case _:
            return False


def _moved(value: object, data: Path) -> object:
    match value:
        case dict():
            return {key: _moved(item, data) for key, item in cast(dict[str, object], value).items()}
        case list():
            return [_moved(item, data) for item in cast(list[object], value)]
        case str() if _names_data(value):
            return str(data / value.removeprefix("./").removeprefix(DATA_PREFIX))
        case _:
            return value


def _mappings(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast(Mapping[str, Any], item) for item in cast(list[object], value) if isinstance(item, dict)]

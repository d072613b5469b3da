"""docs/admin.md is true: its commands exist, its keys and defaults are the config's, its metrics are exported."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from synapse_super_app.commands.main import command_line
from synapse_super_app.config import Config, parse_config

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "admin.md").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in SHELL_BLOCKS for line in block.splitlines()]
    return [line for line in lines if line.startswith("super-app ")]


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Each key of the config by its path, with its default as a person would write it."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found |= keys(type(default), f"{prefix}{name}.")
        else:
            found[prefix + name] = default
    return found


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize("line", commands())
def test_a_command_on_the_page_can_be_typed(line: str) -> None:
    command_line().parse_args(shlex.split(line)[1:])


def test_what_the_pages_tell_to_make_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md"]
    named = {target for page in pages for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert {"compatibility", "newest", "soak", "fuzz", "audit"} <= named
    assert named <= targets


def test_files_that_the_page_sends_its_reader_to_are_there() -> None:
    named = set(re.findall(r"`(docker[-/.\w]+|homeserver\.yaml|pyproject\.toml)`", PAGE))
    assert len(named) >= 4
    for path in named:
        assert (REPOSITORY / path).exists() or (REPOSITORY / "docker" / "monitoring" / path).exists(), path


def test_the_range_of_synapse_on_the_page_is_the_one_that_is_tried() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    oldest, newest = (re.search(rf"^{end}_SYNAPSE := (\S+)$", makefile, re.MULTILINE) for end in ("OLDEST", "NEWEST"))
    assert oldest is not None
    assert newest is not None
    assert f"Synapse {oldest[1]} to {newest[1]}" in PAGE
    pinned = re.search(r'"matrix-synapse==([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert pinned is not None
    assert pinned[1] == newest[1]


def test_the_table_of_keys_is_that_of_the_config() -> None:
    section = PAGE.partition("## The keys")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", section, re.MULTILINE))
    assert set(rows) == set(keys(Config))


def test_the_defaults_on_the_page_are_those_of_the_config() -> None:
    section = PAGE.partition("## The keys")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `(.*?)` \|", section, re.MULTILINE))
    written: dict[str, Any] = {}
    for path, text in rows.items():
        import yaml

        *folders, last = path.split(".")
        place = written
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = yaml.safe_load(text)
    assert parse_config(written) == Config()
    # What has no default in the table has none in the config either.
    for path in set(keys(Config)) - set(rows):
        assert keys(Config)[path] is None, path


def test_the_config_that_we_ship_shows_every_key() -> None:
    ours = (REPOSITORY / "homeserver.yaml").read_text(encoding="utf-8").partition("\nmodules:")[2]
    for path in keys(Config):
        assert re.search(rf"\b{path.rpartition('.')[2]}:", ours), path


def test_the_yaml_on_the_page_is_what_our_config_takes() -> None:
    import yaml

    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    entries = [entry for block in blocks for entry in block.get("modules", [])]
    assert entries
    for entry in entries:
        parse_config(entry["config"])


def test_metrics_on_the_page_are_exported() -> None:
    modules = REPOSITORY / "modules" / "synapse_super_app"
    source = "".join(path.read_text(encoding="utf-8") for path in modules.rglob("*.py"))
    exported = set(re.findall(r'"(superapp_[a-z_]+)"', source))
    section = PAGE.partition("## Watching it")[2]
    named = set(re.findall(r"`(superapp_[a-z_]+)`", section)) - {"superapp_"}
    assert named
    assert named <= exported


def test_routes_on_the_page_are_in_the_code() -> None:
    modules = REPOSITORY / "modules" / "synapse_super_app"
    source = "".join(path.read_text(encoding="utf-8") for path in modules.rglob("*.py"))
    for route in re.findall(r"superapp/v1/([a-z/.]+)", PAGE):
        path = route.strip("/").replace("admin/links/two.example/evidence", "admin/links/{peer}/evidence")
        assert path in {"openapi.json", "admin"} or f'path="{path}"' in source, path

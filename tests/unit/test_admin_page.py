"""docs/admin.md is true: its commands exist, its keys and defaults are the config's, its metrics are exported."""

import re
import shlex
import subprocess
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from walk import blocks, script

from synapse_super_app.commands.main import command_line
from synapse_super_app.config import Config, parse_config

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "admin.md").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


OPERATORS = frozenset({"|", "||", "&&", ";", "&", "(", ")", ";;", "\n"})
"""Between two of these stands one command."""
KEYWORDS = frozenset({"do", "until", "if", "then", "else", "!", "{"})
_COMMON = "export umask mkdir cat grep sleep kill wait touch rm for done }"
_TO_INSTALL = "super-app make docker curl openssl python psql systemctl createuser createdb"
_OF_THE_PAGE = "config pay wallet_of_bob /opt/venvs/matrix-synapse/bin/pip"
PROGRAMS = frozenset(f"{_COMMON} {_TO_INSTALL} {_OF_THE_PAGE}".split())
"""What the page may begin a command with: ours, and what any machine of an admin has or the page says to install."""


def words_of(block: str) -> list[list[str]]:
    """The commands of a block of shell, each as its words, without where their output goes.

    What a here-document says is none.
    """
    block = re.sub(r"<<(\w+)\n.*?^\1$", "", block, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
    block = re.sub(r"(?<!\S)\d?[<>]+(&\d|\s*[\w./$\"-]+)", "", block)
    found: list[list[str]] = []
    for line in block.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for is_operator, words in groupby(lexer, lambda word: word in OPERATORS):
            told = list(words)
            if told[:1] == ["sudo"]:
                told = told[3:] if told[1:2] == ["-u"] else told[1:]
            while told and (told[0] in KEYWORDS or re.fullmatch(r"\w+=.*", told[0], re.DOTALL)):
                told.pop(0)
            if not is_operator and told:
                found.append(told)
    return found


def commands() -> list[str]:
    all_words = [words for block in SHELL_BLOCKS for words in words_of(block)]
    ours = [words[words.index("super-app") :] for words in all_words if "super-app" in words]
    return list(dict.fromkeys(shlex.join(words) for words in ours))


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


def test_every_block_of_shell_can_be_typed_into_a_bash() -> None:
    for block in SHELL_BLOCKS:
        read = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), block


def test_every_command_on_the_page_begins_with_a_program_that_there_is() -> None:
    begun = {words[0] for block in SHELL_BLOCKS for words in words_of(block)}
    assert {"super-app", "make", "curl", "kill"} <= begun
    assert begun <= PROGRAMS


def test_what_the_page_tells_to_make_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    typed = [words[1:] for block in SHELL_BLOCKS for words in words_of(block) if words[0] == "make"]
    assert {"install-run", "install-redis"} <= {target for targets_of in typed for target in targets_of} <= targets


def test_the_walk_types_what_the_page_says_about_two_homeservers() -> None:
    """From the installation to the end, and no block of it is left out."""
    found = blocks(PAGE)
    assert [block for block in SHELL_BLOCKS if block in found] == found
    assert len(found) >= 8
    assert found[0].startswith("make install-run")
    assert found[-1].startswith("kill")
    assert script(found).count("super-app up --config") == 2


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

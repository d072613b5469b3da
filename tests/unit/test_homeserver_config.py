"""How the command line reads a config file, overrides it, and asks it."""

import os
from pathlib import Path

import pytest
import yaml

from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.homeserver_config import load, overridden, write_copy

SHIPPED = Path(__file__).parents[2] / "homeserver.yaml"

TLS = "{port: 1, type: http, tls: true, resources: [{names: [client]}]}"


def written(folder: Path, text: str) -> Path:
    path = folder / "homeserver.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"there is no .*homeserver\.yaml; .*--config FILE"):
        load(tmp_path / "homeserver.yaml")


def test_several_files_and_folders_are_one_config_and_later_keys_replace_earlier_ones(tmp_path: Path) -> None:
    first = written(tmp_path, "server_name: here\nlisteners: []\nmedia_store_path: data/media\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.yaml").write_text("server_name: there\n", encoding="utf-8")
    (tmp_path / "conf.d" / "a.yaml").write_text("server_name: nowhere\nreport_stats: false\n", encoding="utf-8")
    (tmp_path / "conf.d" / "notes.txt").write_text("no config", encoding="utf-8")
    config = load(first, tmp_path / "conf.d")
    assert config.content == {
        "server_name": "there",
        "listeners": [],
        "media_store_path": "data/media",
        "report_stats": False,
    }
    assert config.folder == tmp_path
    assert not config.is_one_file
    assert load(first).is_one_file
    assert not overridden(load(first), server_name="other").is_one_file


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"there is no \.yaml file in "):
        load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "server_name: here\n")
    path.chmod(0)
    with pytest.raises(CommandFailed, match=r"cannot read .*: Permission denied"):
        load(path)


def test_broken_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="line 2 is not valid YAML"):
        load(written(tmp_path, "server_name: here\n  port: [\n"))


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="must be a mapping"):
        load(written(tmp_path, "- just\n- a list\n"))


def test_another_data_folder_moves_what_lies_under_data_and_nothing_else(tmp_path: Path) -> None:
    config = overridden(load(SHIPPED), data=tmp_path)
    assert config.content["database"]["args"]["database"] == str(tmp_path / "homeserver.db")
    assert config.content["signing_key_path"] == str(tmp_path / "signing.key")
    assert config.content["modules"][0]["config"]["payments"]["halt_file"] == str(tmp_path / "payments.halted")
    assert config.content["public_baseurl"] == "http://localhost:8008/"
    assert config.data_folder() == tmp_path


def test_another_data_folder_needs_something_to_move(tmp_path: Path) -> None:
    config = load(written(tmp_path, "server_name: here\nmedia_store_path: /srv/media\n"))
    with pytest.raises(CommandFailed, match=r"--data: .* keeps nothing under data/"):
        overridden(config, data=tmp_path)


def test_another_port_changes_the_listener_and_the_urls_of_this_machine() -> None:
    config = overridden(load(SHIPPED), port=9000)
    assert config.client_url() == "http://localhost:9000"
    assert config.content["public_baseurl"] == "http://localhost:9000/"
    assert config.content["web_client_location"] == "http://localhost:9000/superapp/"


def test_a_public_url_does_not_follow_the_port(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8").replace(
        "public_baseurl: http://localhost:8008/", "public_baseurl: https://chat.example.org/"
    )
    config = overridden(load(written(tmp_path, text)), port=9000)
    assert config.content["public_baseurl"] == "https://chat.example.org/"


def test_a_port_needs_a_listener_for_clients(tmp_path: Path) -> None:
    config = load(written(tmp_path, "listeners: [{port: 9, type: metrics}]\n"))
    with pytest.raises(CommandFailed, match="--port: no listener"):
        overridden(config, port=9000)
    with pytest.raises(CommandFailed, match="listeners: none serves clients"):
        config.client_url()


def test_the_copy_for_synapse_can_be_read_from_its_own_place(tmp_path: Path) -> None:
    original = load(written(tmp_path, SHIPPED.read_text(encoding="utf-8")))
    (tmp_path / "elsewhere").mkdir()
    copy_path = tmp_path / "elsewhere" / "homeserver.yaml"
    write_copy(overridden(original, port=9000), copy_path)
    copy = load(copy_path)
    assert copy.path_at("registration_shared_secret_path") == tmp_path / "data" / "registration_secret"
    assert copy.sqlite_files() == [tmp_path / "data" / "homeserver.db"]
    assert copy.client_url() == "http://localhost:9000"
    assert copy_path.stat().st_mode & 0o077 == 0
    assert copy_path.read_text(encoding="utf-8").startswith("# Written by super-app up")


@pytest.mark.parametrize(
    ("listeners", "url"),
    [
        ("[{port: 1, type: http, bind_addresses: ['::'], resources: [{names: [client]}]}]", "http://localhost:1"),
        ("[{port: 1, type: http, resources: [{names: [client]}]}]", "http://localhost:1"),
        ("[{port: 1, type: http, bind_address: 10.0.0.1, resources: [{names: [client]}]}]", "http://10.0.0.1:1"),
        ("[{port: 1, type: http, bind_address: 'fe80::1', resources: [{names: [client]}]}]", "http://[fe80::1]:1"),
        (f"[{TLS}, {{port: 2, type: http, resources: [{{names: [client]}}]}}]", "http://localhost:2"),
        (f"[{TLS}]", "https://localhost:1"),
    ],
)
def test_clients_on_this_machine_use_the_first_plain_listener(tmp_path: Path, listeners: str, url: str) -> None:
    assert load(written(tmp_path, f"listeners: {listeners}\n")).client_url() == url


def test_the_shipped_file_is_what_the_default_path_finds() -> None:
    assert homeserver_config.DEFAULT_PATH.name == SHIPPED.name
    assert set(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))) == set(load(SHIPPED).content)

"""``super-app recovery`` says what the admin API says, in sentences."""

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_api import FakeHomeserver

from synapse_super_app.commands import recovery
from synapse_super_app.commands.main import command_line


class Client:
    """Stands for the client of an admin."""

    def __init__(self, homeserver: FakeHomeserver, admin: str) -> None:
        self._homeserver = homeserver
        self._admin = admin

    def superapp(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return self._homeserver.call(method, path, self._admin, body)


def test_an_operator_sees_the_realm_and_vouches_for_its_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    homeserver = FakeHomeserver(
        config={
            "features": {"recovery": True, "assistant": True},
            "recovery": {"operator": "The Garden", "realms": [{"server": "hs2.test", "operator": "The Mill"}]},
        }
    )
    admin = homeserver.register("admin", admin=True)
    homeserver.start()

    @contextmanager
    def signed_in(_: argparse.Namespace) -> Generator[Client]:
        yield Client(homeserver, admin)

    monkeypatch.setattr(recovery, "admin", signed_in)
    for line in (["recovery", "show"], ["recovery", "vouch", "--not-restored"]):
        parsed = command_line().parse_args(line)
        assert parsed.run(parsed) == 0
        said = capsys.readouterr().out
        assert "run by The Garden. Its key: " in said
        assert "hs1.test (The Garden): open" in said
        assert "hs2.test (The Mill): does not answer" in said
    assert homeserver.query("SELECT COUNT(*) FROM superapp_recovery_vouched") == [(1,)]

"""``super-app doctor`` on homeservers that run: nothing wrong with the demo, and what is broken is found."""

import json
import os
import subprocess
from typing import Any

import pytest
from processes import SUPER_APP
from running_demo import RunningDemo

from synapse_super_app.commands.admin_access import TOKEN_VARIABLE

pytestmark = pytest.mark.on("sqlite")


def doctor(demo: RunningDemo, *, token: str = "") -> tuple[int, dict[str, dict[str, Any]]]:
    config = demo.folder / "demo" / "homeserver1" / "homeserver.yaml"
    done = subprocess.run(
        [str(SUPER_APP), "doctor", "--json", "--config", str(config)],
        env={**os.environ, TOKEN_VARIABLE: token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}


def test_nothing_is_wrong_with_the_demo(demo: RunningDemo) -> None:
    code, found = doctor(demo, token=str(demo.admins[0].access_token))
    assert code == 0, found
    peer = demo.names[1]
    for check in (
        "homeserver",
        "feature.payments",
        "federation.reached",
        "books",
        f"link.{peer}",
        f"peer.{peer}.clock",
    ):
        assert found[check]["verdict"] == "good", found[check]
    assert found["federation.certificate"]["verdict"] == "good"
    assert found["turn"]["verdict"] == "warning"


def test_without_a_token_it_says_what_it_could_not_see(demo: RunningDemo) -> None:
    code, found = doctor(demo)
    assert code == 0
    assert found["books"]["verdict"] == "unseen"
    assert "--token-file" in found["books"]["sentence"]

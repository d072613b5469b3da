"""The pair of homeservers that the demo runs, with small programs in their place."""

import sys
from pathlib import Path

import pytest

from synapse_super_app.commands.demo_pair import DemoPair, PartDied
from synapse_super_app.commands.homeserver_process import Homeserver
from synapse_super_app.commands.matrix_client import UnreachableError

ENDS_SOON = (sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(3)")
RUNS_ON = (sys.executable, "-c", "import time; time.sleep(600)")


class BrokenConnection(DemoPair):
    """Two programs start, and then the first request breaks off."""

    programs: tuple[tuple[str, ...], tuple[str, ...]]

    def _start_processes(self) -> None:
        for side, program in zip(self.sides, self.programs, strict=True):
            side.folder.mkdir(parents=True)
            object.__setattr__(side, "process", stand_in(side.process, program))
            side.process.spawn()

    def _provision(self) -> None:
        raise UnreachableError("the connection broke")


def stand_in(process: Homeserver, program: tuple[str, ...]) -> Homeserver:
    return Homeserver(
        config_path=process.config_path,
        client_url=process.client_url,
        console_path=process.console_path,
        program=program,
    )


def test_a_part_that_ends_just_after_its_connection_broke_is_named(tmp_path: Path) -> None:
    pair = BrokenConnection(data=tmp_path, port_base=18008)
    pair.programs = (RUNS_ON, ENDS_SOON)
    with pytest.raises(PartDied, match=rf"homeserver {pair.sides[1].name}: Synapse ended with exit code 3"):
        pair.start()
    assert not any(side.process.running for side in pair.sides)


def test_a_broken_connection_to_parts_that_go_on_is_told_as_what_it_is(tmp_path: Path) -> None:
    pair = BrokenConnection(data=tmp_path, port_base=18008)
    pair.programs = (RUNS_ON, RUNS_ON)
    with pytest.raises(UnreachableError, match="the connection broke"):
        pair.start()
    assert not any(side.process.running for side in pair.sides)

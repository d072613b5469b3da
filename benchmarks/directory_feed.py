"""How long a new homeserver takes to replicate and verify the feed of another one with a million public handles.

Both are on this machine and share it, so it is the time of the serving side as well.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from benchmarks import directory_database
from benchmarks.directory import MODULE
from benchmarks.directory_homeserver import FilledHomeserver, postgres_server, size
from benchmarks.frame import Context, Row
from super_app.db import Engine
from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.loopback import Federation

NAMES: Final = ("directory.feed", "directory.feed.sqlite")
_LONGEST_S: Final = 3_600.0
_POLL_S: Final = 0.25


def run(context: Context) -> Iterator[Row]:
    for engine, row in zip((Engine.POSTGRESQL, Engine.SQLITE), NAMES, strict=True):
        if context.wants(row):
            yield _feed(context, engine, row)


def _feed(context: Context, engine: Engine, row: str) -> Row:
    people = size()
    folder = context.folder / f"feed-{engine.value}"
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        postgres = None
        if engine is Engine.POSTGRESQL:
            postgres = postgres_server(folder / "postgresql")
            postgres.start()
            stack.callback(postgres.remove)
        ca = ThrowAwayCa(folder)

        def federation(name: str) -> Federation:
            return Federation(port=loopback.free_ports(1), certificate=ca.issue(name, loopback.ADDRESS))

        serving = stack.enter_context(
            FilledHomeserver(folder / "serving", postgres, MODULE, federation=federation("serving"))
        )
        serving.make()
        database = serving.database()
        context.say(f"{row}: filling a homeserver with {people} people")
        directory_database.fill_own(database, serving.name, serving.key(), range(people), int(time.time() * 1000))
        database.commit()
        database.analyze()
        database.connection.close()
        serving.start_again()
        reading = stack.enter_context(
            FilledHomeserver(folder / "reading", postgres, MODULE, federation=federation("reading"))
        )
        reading.make()
        directory: dict[str, Any] = {**MODULE["directory"], "peers": [serving.name], "feed_interval": "1s"}
        reading.config["modules"][0]["config"] = {**MODULE, "directory": directory}
        # The clock runs from the start of a homeserver that has heard of the other for the first time.
        began_s = time.perf_counter()
        reading.start_again()
        took_s = _until_replicated(reading, people, began_s)
    return Row(name=row, value=took_s, unit="s", yardstick=None, yardstick_value=None, goal="<= 300 s", n=people)


def _until_replicated(reading: FilledHomeserver, people: int, began_s: float) -> float:
    """Seconds until the feed was read to its end, with every record there."""
    database = reading.database()
    try:
        while time.perf_counter() - began_s < _LONGEST_S:
            at_end = database.number("SELECT COALESCE(MAX(polled_ms), 0) FROM superapp_directory_peer")
            if at_end:
                took_s = time.perf_counter() - began_s
                there = database.number("SELECT COUNT(*) FROM superapp_directory_replica")
                if there < people:
                    raise RuntimeError(f"the feed was read to its end, and {people - there} records are missing")
                return took_s
            database.commit()
            time.sleep(_POLL_S)
    finally:
        database.connection.close()
    raise TimeoutError(f"the feed was not replicated within {_LONGEST_S:g} s")

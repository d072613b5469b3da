"""Runs benchmarks: ``python -m benchmarks [ONLY]``, where ONLY is the beginning of names, such as ``ledger``.

Writes build/bench.json and prints the same as a table. A figure of an earlier run stays in the file until its benchmark
runs again.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from benchmarks import (
    call,
    call_media,
    call_records,
    call_token,
    chat,
    directory,
    directory_feed,
    directory_hidden,
    gift,
    ledger_depth,
    ledger_throughput,
    memory,
    payment,
    recovery,
)
from benchmarks.frame import RESULT, Context, Row, table

MODULES: Final[Sequence[ModuleType]] = (
    chat,
    payment,
    gift,
    call,
    call_media,
    call_records,
    call_token,
    memory,
    ledger_throughput,
    ledger_depth,
    directory,
    directory_feed,
    directory_hidden,
    recovery,
)


def main(arguments: Sequence[str]) -> int:
    only = arguments[0] if arguments else ""
    names = [name for module in MODULES for name in module.NAMES]
    if not any(name.startswith(only) for name in names):
        print(f"bench: no benchmark begins with {only!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="superapp-bench-"))
    try:
        rows = list(_run(Context(folder=folder, only=only)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _write(rows, names)
    print(table(rows))
    return 0


def _run(context: Context) -> Iterator[Row]:
    for module in MODULES:
        if any(context.wants(name) for name in module.NAMES):
            for row in module.run(context):
                context.say(f"{row.name}: {row.value:.4g} {row.unit}, ratio {row.ratio}")
                yield row


def _write(rows: Sequence[Row], names: Sequence[str]) -> None:
    kept = {row["name"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))} if RESULT.exists() else {}
    kept.update((row.name, row.to_json()) for row in rows)
    RESULT.parent.mkdir(exist_ok=True)
    ordered = [kept[name] for name in names if name in kept]
    RESULT.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

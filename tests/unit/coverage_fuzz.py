"""libFuzzer on every parser of ``test_parsers_fuzz.py``, by what of its code an input reaches (``make fuzz-coverage``).

One process for each parser, forked once all is imported, since libFuzzer ends with its process. The exit code is 1 if
a parser raised, and the input is in ``build/fuzz``.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# By name: the tool is not in the environment that the checks see, and the tests of this folder are no package.
atheris: Any = importlib.import_module("atheris")
with atheris.instrument_imports(include=["super_app", "synapse_super_app"]):
    tables: Any = importlib.import_module("test_parsers_fuzz")

FOUND = Path(__file__).parents[2] / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds-each", type=int, default=20)
    seconds = parser.parse_args().seconds_each
    broken: list[str] = []
    for name in (*tables.JSON_PARSERS, *tables.TEXT_PARSERS):
        print(f"fuzz: {name}, {seconds} s", flush=True)
        child = os.fork()
        if child == 0:
            _fuzz(name, seconds)
        _, status = os.waitpid(child, 0)
        if status:
            broken.append(name)
    print(f"fuzz: {len(broken)} parsers raised: {', '.join(broken)}" if broken else "fuzz: no parser raised")
    return int(bool(broken))


def _fuzz(name: str, seconds: int) -> None:
    corpus = FOUND / "corpus" / name.replace(" ", "_")
    corpus.mkdir(parents=True, exist_ok=True)
    is_json = name in tables.JSON_PARSERS
    if is_json:
        for number, vector in enumerate(tables.VECTORS[:300]):
            (corpus / f"vector-{number}").write_text(json.dumps(vector))
    options = ["-max_len=4096", "-rss_limit_mb=1024", "-verbosity=0", f"-artifact_prefix={FOUND}{os.sep}"]
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-max_total_time={seconds}", *options],
        _of_json(name) if is_json else _of_text(name),
    )
    atheris.Fuzz()


def _of_json(name: str) -> Callable[[bytes], None]:
    def one(raw: bytes) -> None:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            return
        tables.JSON_PARSERS[name](value)

    return one


def _of_text(name: str) -> Callable[[bytes], None]:
    return lambda raw: (tables.TEXT_PARSERS[name](raw.decode("utf-8", "replace")), None)[1]


if __name__ == "__main__":
    sys.exit(main())

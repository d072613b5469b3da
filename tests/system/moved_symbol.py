"""Synapse as it would be after an update that removed one symbol: ``python moved_symbol.py MODULE:PATH ARGUMENT…``."""

import importlib
import sys
from operator import attrgetter
from typing import Any

from synapse.app.homeserver import main


def remove(symbol: str) -> None:
    module, _, path = symbol.partition(":")
    owner, _, name = path.rpartition(".")
    found: Any = importlib.import_module(module)
    delattr(attrgetter(owner)(found) if owner else found, name)


if __name__ == "__main__":
    remove(sys.argv.pop(1))
    main()

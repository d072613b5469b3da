"""The Synapse shell of Super App: callbacks, routes, timers and processes around the domain in ``super_app``.

``homeserver.yaml`` names one class of it: ``module: synapse_super_app.SuperApp``.
"""

import sys
from typing import TYPE_CHECKING

if sys.version_info < (3, 11):  # noqa: UP036 - pip sees to it; whoever runs a checkout by hand gets this line
    sys.exit(f"super-app: Python 3.11 or later is needed, this is {sys.version.split()[0]}; run it with a newer one")

if TYPE_CHECKING:
    from synapse_super_app.module import SuperApp

__all__ = ["SuperApp"]


def __getattr__(name: str) -> object:
    # Importing Synapse takes seconds, and the command line needs none of it in its own process.
    if name == "SuperApp":
        from synapse_super_app.module import SuperApp

        return SuperApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

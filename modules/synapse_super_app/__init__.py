"""The Synapse shell of Super App: callbacks, routes, timers and processes around the domain in ``super_app``.

``homeserver.yaml`` names one class of it: ``module: synapse_super_app.SuperApp``.
"""

from synapse_super_app.module import SuperApp

__all__ = ["SuperApp"]

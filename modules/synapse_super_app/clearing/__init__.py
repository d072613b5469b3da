"""The Synapse shell of clearing: federation in and out, time, and the operator's routes."""

from synapse_super_app.clearing.identity import build_clearing
from synapse_super_app.clearing.shell import ClearingShell

__all__ = ["ClearingShell", "build_clearing"]

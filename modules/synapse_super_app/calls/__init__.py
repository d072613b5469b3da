"""The Synapse shell of calls."""

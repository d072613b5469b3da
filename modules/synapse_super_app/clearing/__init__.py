"""The Synapse shell of clearing."""

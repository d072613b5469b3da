"""The Synapse shell of web."""

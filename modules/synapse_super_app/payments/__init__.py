"""The Synapse shell of payments."""

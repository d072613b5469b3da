"""The Synapse shell of directory."""

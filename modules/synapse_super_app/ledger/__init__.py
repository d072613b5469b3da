"""The Synapse shell of ledger."""

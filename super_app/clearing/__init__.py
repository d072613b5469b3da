"""How two homeservers agree on a payment without trusting each other (``docs/clearing.md``). Stands on the ledger."""

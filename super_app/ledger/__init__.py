"""Whose money it is: a double-entry ledger with holds. Knows nothing of rooms, payments or other homeservers."""

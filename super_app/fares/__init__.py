"""Calls by the minute: what a caller has confirmed to pay, what lies aside for it, and what was paid."""

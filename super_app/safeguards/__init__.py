"""Safeguards: what keeps a person's money from leaving in others' hands or too fast. Limits, the PIN, the lock."""

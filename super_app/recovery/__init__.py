"""The four digits: a short PIN that recovers the Matrix recovery key, guarded by several homeservers.

Each of them, a *realm*, holds one share of a key of a threshold OPRF (RFC 9497 as the base) and counts guesses. None
learns PIN or key. ``docs/recovery.md`` is the protocol. Owns the cryptography and a realm's state; reaches nobody.
"""

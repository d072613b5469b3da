"""Pots in the homeserver: gifts and links over HTTP, between homeservers, in rooms, and on time."""

"""Deposits of strangers in the homeserver: invitations that wait for one, routes, other homeservers, and time."""

"""Calls by the minute in the homeserver: prices asked and told, the meter, other homeservers."""

"""The assistant in the homeserver: its account and rooms, what it hears, and what it does for people."""

"""Sessions of ours in other clients: a widget that may read, for an hour, what its person has. They move nothing."""

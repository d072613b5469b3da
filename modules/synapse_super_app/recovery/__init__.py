"""Recovery in the homeserver: a realm for its own and others' people, and the way of its people to their realms."""

"""The safeguards of wallets in the homeserver: settings from the config, hashing of PINs, routes."""

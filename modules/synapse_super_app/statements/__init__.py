"""The Synapse shell of statements: routes, files, and PDF."""

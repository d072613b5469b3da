"""The Synapse shell of disputes: routes, other homeservers, and what operators do."""

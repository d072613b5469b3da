"""The Synapse shell of scheduled payments: routes and the clock."""

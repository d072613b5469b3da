"""The Synapse shell of reviews: the list of names, and what operators do."""

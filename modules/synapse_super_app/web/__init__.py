"""The page at /superapp/."""

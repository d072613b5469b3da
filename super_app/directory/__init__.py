"""Handles: who is called what, signed, and how it is found. A stranger to payments and calls."""

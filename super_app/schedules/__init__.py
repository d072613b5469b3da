"""Payments that are made later or again and again, on their own day."""

"""Append-only logs that others can check: RFC 6962 trees, stored as tiles, with signed checkpoints.

It knows neither what is logged nor where tiles are kept.
"""

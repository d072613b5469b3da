"""Disputes about payments: a case with a timeline, both sides heard, decided by the operator, paid by new payments."""

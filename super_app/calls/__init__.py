"""Calls: sessions, their records, and who may ring. A stranger to payments and the directory."""

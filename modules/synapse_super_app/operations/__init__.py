"""The homeserver as a whole, for its operators: halting, proposals, the audit log, migrations that wait."""

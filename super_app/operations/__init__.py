"""What operators do with the homeserver as a whole: the switch that halts payments, the audit log, four eyes."""

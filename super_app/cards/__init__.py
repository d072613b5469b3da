"""Cards: readable messages for people whose client does not show our events. Owns which are due and what was shown."""

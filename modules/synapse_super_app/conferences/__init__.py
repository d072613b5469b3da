"""The Synapse shell of conferences: tokens for the SFU, who has to leave it, and leave events that it looks after."""

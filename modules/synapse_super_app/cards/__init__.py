"""The Synapse shell of cards: sends them as the people of this homeserver, and edits them as things change."""

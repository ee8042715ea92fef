"""Privacy: text that may be shown, and what turns identifiers into pseudonyms."""

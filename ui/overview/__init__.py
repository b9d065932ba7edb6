"""The Overview page: the key number and its intervals."""

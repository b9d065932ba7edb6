"""Which to remove, in which order, until when; the curve of it."""

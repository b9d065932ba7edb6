"""The Prune page: the instrument, what colours its cells, samples."""

"""What several pages draw: figures, numbers in words, uploads."""

"""What is written beside an export: its card, its recipe, the commands that load it, where it came from."""

"""Probes: questions made from a seed, each kind asking for one thing that a model can do."""

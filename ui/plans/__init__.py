"""The Plans page: plans against each other."""

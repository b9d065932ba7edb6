"""The Compare page: pinned configurations side by side."""

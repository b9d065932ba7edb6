"""How fast, as ratios measured in one run: `make bench` prints the table of docs/performance.md."""

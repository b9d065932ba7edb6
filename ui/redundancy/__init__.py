"""The Redundancy page: blocks, measures, pairs, tokens, texts side by side."""

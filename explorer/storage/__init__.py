"""What was computed once: keys (one maker), scores, arrays, eviction."""

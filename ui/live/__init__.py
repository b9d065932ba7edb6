"""Results on their way: panels that run again when a job gets on, progress, what failed."""

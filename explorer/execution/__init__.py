"""Who runs the work: jobs, one worker, the one model in memory."""

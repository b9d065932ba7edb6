"""Arrays in, numbers out: intervals, resampling, rank correlation, racing, ridge. No torch model in sight."""

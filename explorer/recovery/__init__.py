"""What makes up for what was removed -> Delta: closed forms, fitted layer by layer on calibration windows."""

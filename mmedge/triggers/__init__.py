"""From scores to events: thresholds that were calibrated, hysteresis, durations, zones."""

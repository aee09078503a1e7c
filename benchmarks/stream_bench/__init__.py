"""Long runs of streams: what a process holds meanwhile."""

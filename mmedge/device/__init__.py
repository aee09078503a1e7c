"""A whole device from one file: sources, models, triggers, sinks."""

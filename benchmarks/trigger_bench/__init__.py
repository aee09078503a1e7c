"""Synthetic clips with known events, and how triggers and tracks do on them."""

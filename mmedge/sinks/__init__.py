"""The places where results go."""

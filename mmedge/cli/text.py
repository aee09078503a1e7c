"""Numbers and names as people read them."""

from __future__ import annotations


def megabytes(size: int) -> str:
    """``12.3 MB`` of a number of bytes."""
    return f"{size / 1e6:,.1f} MB"


def printable(text: str) -> str:
    """`text` without anything that a terminal would act on."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)

"""Precision: variants that round, where that makes frames faster, and how far each is from the source model."""

from __future__ import annotations

from mmedge_export.precision.searching import search
from mmedge_export.precision.variants import VARIANTS, Precision, Wanted, parse_precision
from mmedge_export.precision.workshop import Workshop

__all__ = ["VARIANTS", "Precision", "Wanted", "Workshop", "parse_precision", "search"]

"""Names that fit where free text does not: topics, identifiers."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 48


def slug(text: str, allowed: str = "A-Za-z0-9_-") -> str:
    """`text`, if it is made of `allowed` characters and not long; else what fits of it, and a short hash of the whole.

    Different texts therefore get different names, and a text always gets the same one.

    Args:
        text: A name or a prompt.
        allowed: What may stand in the brackets of a regular expression.
    """
    if re.fullmatch(f"[{allowed}]{{1,{_LONGEST}}}", text):
        return text
    cleaned = re.sub(f"[^{allowed}]+", "_", text).strip("_")[:_LONGEST].rstrip("_")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cleaned}_{digest}" if cleaned else digest

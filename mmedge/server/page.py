"""The page: one HTML document made of the package's own files when the server starts."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

_SCRIPTS = ("base.js", "link.js", "charts.js", "cameras.js", "prompts.js", "events.js", "tables.js", "main.js")


@dataclass(frozen=True)
class Page:
    """The document, and the Content-Security-Policy under which it runs: its own script and style, nothing else."""

    html: str
    policy: str


def load_page() -> Page:
    """Read the files. No request ever does."""
    folder = resources.files("mmedge.server") / "page"
    style = (folder / "style.css").read_text("utf-8")
    parts = "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}\n}})();\n'
    html = (folder / "index.html").read_text("utf-8")
    html = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = "; ".join(
        (
            "default-src 'self'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return Page(html, policy)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

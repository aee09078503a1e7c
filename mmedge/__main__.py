"""``python -m mmedge``."""

from __future__ import annotations

from mmedge.cli import main

if __name__ == "__main__":
    main()

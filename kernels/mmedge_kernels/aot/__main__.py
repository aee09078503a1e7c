"""``python -m mmedge_kernels.aot``."""

from __future__ import annotations

import sys

from mmedge_kernels.aot.command import main

if __name__ == "__main__":
    sys.exit(main())

"""What pack.json holds, put together by hand, so that each test can say what is wrong with it."""

from __future__ import annotations

import hashlib
from typing import Any

CUBIN, PTX = b"machine code", b"text"


def file_entry(name: str, data: bytes) -> dict[str, Any]:
    return {"file": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def kernel_entry(name: str = "softmax-fp16", sm: int = 87, **changes: Any) -> dict[str, Any]:
    """One kernel of pack.json, whose files are `CUBIN` and `PTX`."""
    pointer = {"type": "*fp16", "aligned": True, "shape": ["rows", "cols"]}
    number = {"type": "i32", "aligned": False, "shape": []}
    entry: dict[str, Any] = {
        "operator": "softmax",
        "name": name,
        "sm": sm,
        "architecture": f"sm_{sm}",
        "entry": "softmax_rows",
        "parameters": [
            {"name": "x_ptr", **pointer},
            {"name": "rows", **number},
            {"name": "cols", **number},
            {"name": "out_ptr", **pointer, "aligned": False},
        ],
        "scratch": ["global_scratch", "profile_scratch"],
        "constants": {"scale": 0.5, "block": 128, "bias_ptr": None, "fast": True},
        "grid": [{"product": ["rows"], "divisor": 1}, {"product": ["cols", "block"], "divisor": 64}],
        "warps": 4,
        "shared_bytes": 16,
        "registers": 17,
        "stack_bytes": 0,
        "spill_free": True,
        "ptx_version": "8.5",
        "toolkit": "12.9",
        "cubin": file_entry(f"{name}-sm{sm}.cubin", CUBIN),
        "ptx": file_entry(f"{name}-sm{sm}.ptx", PTX),
    }
    return entry | changes


def pack_entry(*kernels: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """All of pack.json."""
    entry: dict[str, Any] = {
        "format": 1,
        "producer": {"triton": "3.9.0"},
        "targets": [{"name": "jetson-orin-jp6", "sms": [87], "cuda": "12.6", "ptx": "8.5"}],
        "kernels": list(kernels),
    }
    return entry | changes

"""What there is to compile: the standard kernels of each operator, and those that a bundle's image input needs."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmedge_kernels.aot.jobs import specs_from_json
from mmedge_kernels.aot.processes import Workers
from mmedge_kernels.aot.tools import tools_folder
from mmedge_kernels.errors import CompileError
from mmedge_kernels.specification import KernelSpec

OPERATORS: Mapping[str, str] = {
    "cross_attention": "mmedge_kernels.cross_attention.kernels",
    "prompt_attention": "mmedge_kernels.prompt_attention.kernels",
    "frame": "mmedge_kernels.frame.kernels",
}
"""Operator -> the module with its ``standard_specs(sm)``."""

_IMAGE_SPECS = "mmedge_kernels.frame.kernels:kernel_specs_for_image"
_LARGEST_MANIFEST = 8 << 20


def collect_specs(
    sms: Sequence[int], operators: Iterable[str] | None = None, contracts: Iterable[Mapping[str, Any]] = ()
) -> tuple[KernelSpec, ...]:
    """The standard kernels of the operators for each of `sms`, then those for each image contract.

    operators: names of `OPERATORS`; None: all. contracts: image inputs as a bundle's manifest has them.
    Raises CompileError for an unknown operator, when a module of an operator fails, or when Triton is not installed.
    """
    tools_folder()  # without Triton no module with kernels can be imported
    names = list(OPERATORS if operators is None else dict.fromkeys(operators))
    unknown = [name for name in names if name not in OPERATORS]
    if unknown:
        raise CompileError(f"unknown operator {', '.join(unknown)}; take one of: {', '.join(OPERATORS)}")
    calls: list[dict[str, Any]] = [
        {"function": f"{OPERATORS[name]}:standard_specs", "argument": sm, "sms": [sm]} for name in names for sm in sms
    ]
    calls += [{"function": _IMAGE_SPECS, "argument": contract, "sms": []} for contract in contracts]
    try:
        with tempfile.TemporaryDirectory(prefix="mmedge-aot-") as temporary, Workers() as workers:
            folder = Path(temporary)
            workers.run({"calls": calls}, folder, {})
            return specs_from_json((folder / "specs.json").read_text(encoding="utf-8"))
    except (CompileError, OSError) as error:
        raise CompileError(f"the kernels of {', '.join(names)} cannot be listed: {error}") from error


def image_contracts(bundle: Path) -> tuple[Mapping[str, Any], ...]:
    """The image inputs of a bundle, ``NAME.mmedge`` or the same tree as a folder, as its manifest describes them.

    Raises CompileError when there is no bundle, or its manifest cannot be read.
    """
    try:
        data = _manifest_bytes(bundle)
        manifest = json.loads(data)
        inputs = manifest["inputs"].values()
        return tuple(contract for contract in inputs if contract["kind"] == "image")
    except FileNotFoundError as error:
        raise CompileError(f"no bundle at {bundle}: expected a .mmedge file or folder") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CompileError(f"the bundle {bundle} cannot be read: {error}; copy it again") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CompileError(
            f"the manifest of {bundle} does not describe inputs ({type(error).__name__}: {error}); export it again"
        ) from error


def _manifest_bytes(bundle: Path) -> bytes:
    if bundle.is_dir():
        with (bundle / "manifest.json").open("rb") as file:
            data = file.read(_LARGEST_MANIFEST + 1)
    else:
        with zipfile.ZipFile(bundle) as archive, archive.open("manifest.json") as member:
            data = member.read(_LARGEST_MANIFEST + 1)
    if len(data) > _LARGEST_MANIFEST:
        raise ValueError(f"manifest.json has more than {_LARGEST_MANIFEST} bytes")
    return data

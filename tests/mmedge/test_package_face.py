"""The public face: what `import mmedge` promises, and what it costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mmedge

HEAVY = ("numpy", "cv2", "onnxruntime", "tokenizers", "torch", "triton", "onnx", "transformers", "rich", "typer")


def test_all_is_exact_and_sorted() -> None:
    assert mmedge.__all__ == sorted({name for names in mmedge._HOMES.values() for name in names} | {"__version__"})
    for name in mmedge.__all__:
        assert getattr(mmedge, name) is not None
        assert name in dir(mmedge)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(mmedge.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(mmedge.__all__)


@pytest.mark.parametrize("first", ["mmedge.verification", "mmedge.model", "mmedge.bundle", "mmedge.sources"])
def test_no_module_hides_a_public_name(first: str) -> None:
    code = f"import {first}, mmedge; assert callable(mmedge.verify) and callable(mmedge.load) and mmedge.open_bundle"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_loads_nothing() -> None:
    code = f"import sys, mmedge; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_import_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import mmedge; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(5)
    ]
    assert min(times) < 0.05


def test_the_runtime_never_imports_the_training_side() -> None:
    forbidden = {"torch", "triton", "onnx", "transformers", "onnxscript", "mmedge_export"}
    root = Path(mmedge.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            found = {name.split(".")[0] for name in names} & forbidden
            assert not found or "cli" in path.relative_to(root).parts, f"{path} imports {found}"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mmedge.nonsense  # noqa: B018


def test_the_error_tree_has_one_root() -> None:
    errors = importlib.import_module("mmedge.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert kinds
    assert all(issubclass(kind, mmedge.MmedgeError) for kind in kinds)

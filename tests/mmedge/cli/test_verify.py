"""``mmedge verify`` says by what it judged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.bundles import write_bundle
from support.command import Mmedge

from mmedge.bundle import Variant, open_bundle, seal


@pytest.mark.parametrize(("least", "word", "code"), [(0.999, "PASS", 0), (1.5, "FAIL", 1)])
def test_figures_stand_beside_their_limits(mmedge: Mmedge, least: float, word: str, code: int, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", form="folder")
    with open_bundle(folder) as bundle:
        manifest = bundle.manifest
    variant = Variant(True, 0.0, {}, limits={"cosine": least, "relative_error": 0.1})
    seal(folder, replace(manifest, variants={"fp32": variant}))
    done = mmedge("verify", folder, "--precision", "fp32", "--engine", "onnxruntime")
    assert done.code == code
    said = done.out
    assert said.startswith(word)
    assert re.search(rf"cosine 1, at least {least:g}$", said, re.MULTILINE)
    assert re.search(r"relative_error [\de.-]+, at most 0\.1$", said, re.MULTILINE)
    assert re.search(r"top1 1$", said, re.MULTILINE)
    assert "relative error 0, at most" not in said

"""The README does what it says: its code runs as written, its links lead somewhere, its verbs exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.clip_folder import write_clip_folder

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_device_example_finds_things() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKS[0]], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "1 run of the text stage"
    assert any(
        re.match(r"\s*\d+ (the blue ball|a ring right of the white ball): [01]\.\d\d at \[", line) for line in lines
    )


def test_the_export_example_exports(tmp_path: Path) -> None:
    write_clip_folder(tmp_path / "clip-vit-base-patch32")
    done = subprocess.run([sys.executable, "-c", BLOCKS[1]], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "logits" in done.stdout
    assert (tmp_path / "door.mmedge").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_verbs_of_the_readme_exist() -> None:
    done = subprocess.run([sys.executable, "-m", "mmedge", "--help"], capture_output=True, text=True, check=True)
    verbs = set(re.findall(r"^    mmedge (\w+)", README, flags=re.MULTILINE))
    assert verbs == {"export", "build", "run", "serve", "calibrate", "info", "verify", "doctor"}
    assert all(verb in done.stdout for verb in verbs)

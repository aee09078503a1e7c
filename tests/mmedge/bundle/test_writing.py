"""Writing is all or nothing."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.bundles import write_bundle

from mmedge.bundle import open_bundle, publish, staging
from mmedge.bundle import writer as writer_module
from mmedge.errors import BundleWriteError


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("before", ["nothing", "zip", "folder"])
def test_a_bundle_replaces_what_was_there(tmp_path: Path, form: str, before: str) -> None:
    out = tmp_path / "b.mmedge"
    if before != "nothing":
        write_bundle(out, external=True, form=before)
    write_bundle(out, form=form)
    assert entries(tmp_path) == ["b.mmedge"]
    assert out.is_dir() == (form == "folder")
    with open_bundle(out) as bundle:
        assert bundle.weights() == {}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_bundle(tmp_path / "1"), write_bundle(tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()


def test_the_manifest_is_the_first_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_bundle(tmp_path / "b")) as archive:
        assert archive.namelist()[0] == "manifest.json"


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_bundle_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, call: str
) -> None:
    out = write_bundle(tmp_path / "b.mmedge", form=form)
    old = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
        monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(BundleWriteError, match="nothing was left behind"):
        write_bundle(out, external=True, form=form)
    monkeypatch.undo()
    assert {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == old
    open_bundle(out).close()


def test_a_folder_that_cannot_take_its_place_gives_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_bundle(tmp_path / "b.mmedge", form="folder")
    rename = Path.rename

    def refuse_staging(self: Path, target: Path) -> Path:
        if self.name.endswith(".staging"):
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_staging)
    with pytest.raises(BundleWriteError):
        write_bundle(out, external=True, form="folder")
    monkeypatch.undo()
    assert entries(tmp_path) == ["b.mmedge"]
    with open_bundle(out) as bundle:
        assert bundle.weights() == {}


def test_an_error_while_staging_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staging(tmp_path / "b.mmedge") as folder:
            (folder / "half").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert entries(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleWriteError, match="was not written"):
        write_bundle(tmp_path / "file" / "b.mmedge")


def test_an_unknown_form(tmp_path: Path) -> None:
    with pytest.raises(BundleWriteError, match="'zip' or 'folder'"):
        publish(tmp_path, tmp_path / "b", form="tar")


def test_staging_is_on_the_file_system_of_the_result(tmp_path: Path) -> None:
    with staging(tmp_path / "deep" / "b.mmedge") as folder:
        assert folder.parent == tmp_path / "deep"
    assert writer_module.file_entries(tmp_path / "deep") == {}

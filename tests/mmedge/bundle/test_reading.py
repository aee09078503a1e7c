"""Bundles that nobody vouches for: each defect is one typed error, and what is listed is what is read."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.bundles import signed, write_bundle

from mmedge.bundle import open_bundle, read_goldens
from mmedge.errors import BundleError, BundleFormatError, BundleIntegrityError


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("packed") / "tiny.mmedge", external=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny.mmedge", external=True, form="folder")


def rezip(source: Path, out: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> Path:
    """A copy of a zip bundle in which `change` turned each member into any number of members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            for member, data in change(name, old.read(name)):
                new.writestr(zipfile.ZipInfo(member), data)
    return out


def edit_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(signed(value))


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_both_forms_give_the_same_bytes(tmp_path: Path, form: str, packed: Path) -> None:
    with open_bundle(write_bundle(tmp_path / "b", external=True, form=form)) as bundle, open_bundle(packed) as other:
        assert bundle.manifest == other.manifest
        for name in bundle.manifest.files:
            assert bytes(bundle.read(name)) == bytes(other.read(name))
        assert set(bundle.weights()) == {"text.bin"}
        assert (bundle.stages_folder() / "text.bin").read_bytes() == bytes(bundle.weights()["text.bin"])


def test_unpacked_stages_disappear_on_close(packed: Path) -> None:
    with open_bundle(packed) as bundle:
        folder = bundle.stages_folder()
        assert folder.is_dir()
    assert not folder.exists()


def test_every_truncation_is_refused(packed: Path, tmp_path: Path) -> None:
    data = packed.read_bytes()
    target = tmp_path / "cut.mmedge"
    edges = {0, 1, 21, 22, len(data) // 2, len(data) - 23, len(data) - 22, len(data) - 1}
    for length in sorted(edges | set(range(0, len(data), 401))):
        target.write_bytes(data[:length])
        # The goldens are a zip themselves: cut behind them, the file is still a zip, and yet no bundle.
        with pytest.raises((BundleFormatError, BundleIntegrityError), match=r"cut\.mmedge"):
            open_bundle(target)


def test_a_flipped_byte_in_any_file_is_refused(folder: Path) -> None:
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 0x40]))
        with pytest.raises(BundleIntegrityError, match=re.escape(path.name)):
            open_bundle(folder)
        path.write_bytes(good)
    open_bundle(folder).close()


def test_a_flipped_byte_anywhere_in_a_zip_never_changes_what_is_read(packed: Path, tmp_path: Path) -> None:
    data, target = packed.read_bytes(), tmp_path / "flipped.mmedge"
    with open_bundle(packed) as bundle:
        expected = {name: bytes(bundle.read(name)) for name in bundle.manifest.files}
        names = bundle.manifest.dumps()
    # Every byte of the directory at the end, and a spread of the rest.
    for place in [*range(0, len(data) - 700, 97), *range(len(data) - 700, len(data))]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        target.write_bytes(flipped)
        try:
            with open_bundle(target) as bundle:
                assert bundle.manifest.dumps() == names
                assert {name: bytes(bundle.read(name)) for name in bundle.manifest.files} == expected
        except BundleError:
            continue


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "stages/../../evil", "a\\b", "C:evil", "./x", "a//b"])
def test_names_that_lead_out_of_a_zip_are_refused(packed: Path, tmp_path: Path, name: str) -> None:
    bad = rezip(
        packed, tmp_path / "bad.mmedge", lambda n, d: [(n, d), *([(name, b"")] if n == "manifest.json" else [])]
    )
    with pytest.raises(BundleIntegrityError, match="name"):
        open_bundle(bad)


def test_names_that_lead_out_of_a_folder_are_refused(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"x")

    def point_outside(manifest: dict[str, object]) -> None:
        files = manifest["files"]
        assert isinstance(files, dict)
        files["../secret"] = {"size": 1, "sha256": "0" * 64}

    edit_manifest(folder, point_outside)
    with pytest.raises(BundleIntegrityError, match=r"\.\./secret"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "manifest.json"])
def test_links_out_of_a_folder_are_refused(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    shutil.move(folder / name, outside)
    os.symlink(outside, folder / name)
    with pytest.raises(BundleIntegrityError, match="link"):
        open_bundle(folder)


def test_compressed_members_are_refused(packed: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.mmedge"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(8 << 20) if name == "tokenizer.json" else old.read(name))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BundleIntegrityError, match="compressed"):
        open_bundle(bomb)


def test_a_declared_size_beyond_the_bound_is_refused(folder: Path) -> None:
    def inflate(manifest: dict[str, object]) -> None:
        files = manifest["files"]
        assert isinstance(files, dict)
        files["tokenizer.json"]["size"] = 1 << 60

    edit_manifest(folder, inflate)
    with pytest.raises(BundleIntegrityError, match="max_bytes"):
        open_bundle(folder)


def test_the_size_bound_can_be_lowered(packed: Path) -> None:
    with pytest.raises(BundleIntegrityError, match="at most"):
        open_bundle(packed, max_bytes=100)


@pytest.mark.parametrize("count", [5_000, 100_000])
def test_too_many_members_are_refused(tmp_path: Path, count: int) -> None:
    crowd = tmp_path / "crowd.mmedge"
    with zipfile.ZipFile(crowd, "w") as archive:
        for number in range(count):
            archive.writestr(zipfile.ZipInfo(str(number)), b"")
    with pytest.raises(BundleIntegrityError, match="at most"):
        open_bundle(crowd)


def test_duplicate_members_are_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        double = rezip(packed, tmp_path / "double.mmedge", lambda n, d: [(n, d)] * (1 + (n == "tokenizer.json")))
    with pytest.raises(BundleIntegrityError, match="twice"):
        open_bundle(double)


def test_a_missing_file_is_named(packed: Path, tmp_path: Path) -> None:
    less = rezip(packed, tmp_path / "less.mmedge", lambda n, d: [] if n == "stages/text.onnx" else [(n, d)])
    with pytest.raises(BundleIntegrityError, match=r"stages/text\.onnx is missing"):
        open_bundle(less)


def test_no_manifest(packed: Path, tmp_path: Path) -> None:
    bare = rezip(packed, tmp_path / "bare.mmedge", lambda n, d: [] if n == "manifest.json" else [(n, d)])
    with pytest.raises(BundleFormatError, match=r"no manifest\.json"):
        open_bundle(bare)


def test_unlisted_files_are_harmless_and_unreadable(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    (folder / "stages" / "other.bin").write_bytes(b"x")
    with open_bundle(folder) as bundle:
        assert set(bundle.weights()) == {"text.bin"}
        with pytest.raises(BundleFormatError, match=r"notes\.txt"):
            bundle.read("notes.txt")


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        open_bundle(tmp_path / "absent.mmedge")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_no_permission(packed: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.mmedge"
    shutil.copy(packed, locked)
    locked.chmod(0)
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(locked)


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


class Explosive:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(npz(**{"0/input/x": np.array([Explosive()], object)}), "pickle", id="pickled-object"),
        pytest.param(b"", "cannot be read", id="empty"),
        pytest.param(b"PK\x05\x06" + bytes(18), None, id="no-arrays"),
        pytest.param(npz(stray=np.zeros(1)), "entries such as", id="unknown-entry"),
        pytest.param(npz(**{"0/input/x": np.zeros(1)}), "needs inputs, outputs", id="no-outputs"),
        pytest.param(
            npz(**{"0/input/x": np.zeros(1), "0/output/y": np.zeros(1), "0/other": np.zeros(1)}),
            "nothing else",
            id="extra",
        ),
        pytest.param(
            npz(**{"0/input/x": np.zeros(1), "0/output/y": np.zeros(1), "0/frame": np.zeros((2, 2))}),
            "uint8",
            id="float-frame",
        ),
        pytest.param(
            npz(**{"0/input/x": np.zeros(1), "0/output/y": np.zeros(1), "0/prompts": np.zeros(2)}),
            "str",
            id="number-prompts",
        ),
        pytest.param(npz(**{"0/input/x": np.zeros(999)})[:-300], "cannot be read", id="truncated"),
    ],
)
def test_goldens_that_cannot_be_trusted(
    data: bytes, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if message is None:
        assert read_goldens(data) == []
        return
    with pytest.raises(BundleFormatError, match=message):
        read_goldens(data)
    assert not (tmp_path / "exploded").exists()


def test_a_goldens_bomb_is_refused_unopened() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("0/input/x.npy", b"")
    data = buffer.getvalue()
    # The directory at the end promises two gigabytes.
    size_field = data.rindex(b"PK\x01\x02") + 24
    huge = data[:size_field] + (2 << 30).to_bytes(4, "little") + data[size_field + 4 :]
    with pytest.raises(BundleFormatError, match="unpacks to"):
        read_goldens(huge)


def test_a_changed_number_in_the_manifest_of_a_folder_is_seen(tmp_path: Path) -> None:
    """The manifest has no other file that could vouch for it: a threshold must not change unseen."""
    folder = write_bundle(tmp_path / "colours", form="folder")
    path = folder / "manifest.json"
    text = path.read_text()
    changed = text.replace('"tolerance": 1e-05', '"tolerance": 9e-01')
    assert changed != text
    path.write_text(changed)
    with pytest.raises(BundleIntegrityError, match="changed after it was written"):
        open_bundle(folder)

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from support.media import encoded, png_claiming

from mmedge.errors import SourceNotFoundError, SourceOpenError
from mmedge.sources import open_source, read_picture

Picture = npt.NDArray[np.uint8]


def as_pillow(data: bytes) -> Picture:
    """What a training pipeline sees: BGR of Pillow's own decoding."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(picture.convert("RGB"))[..., ::-1]


def noise(*shape: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def smooth() -> Image.Image:
    return Image.fromarray(cv2.resize(noise(5, 7, 3), (101, 67), interpolation=cv2.INTER_CUBIC))


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def test_photos_decode_as_pillow_decodes_them(data_dir: Path) -> None:
    photos = sorted((data_dir / "photos").iterdir())
    assert photos
    for photo in photos:
        ours, reference = read_picture(photo).astype(int), as_pillow(photo.read_bytes()).astype(int)
        assert ours.shape == reference.shape, photo.name
        # JPEG leaves the inverse transform to the decoder; PNG leaves nothing open.
        assert np.abs(ours - reference).max() <= (0 if photo.suffix == ".png" else 2), photo.name


RGB, RGBA, GREY = Image.fromarray(noise(37, 53, 3)), Image.fromarray(noise(37, 53, 4)), Image.fromarray(noise(37, 53))
MADE = {
    "rgb": encoded(RGB),
    "rgba": encoded(RGBA),
    "grey": encoded(GREY),
    "grey-alpha": encoded(Image.fromarray(noise(37, 53, 2), "LA")),
    "one-bit": encoded(GREY.convert("1")),
    "palette": encoded(RGB.quantize(64)),
    "palette-4-bit": encoded(RGB.quantize(7), bits=4),
    "palette-transparent": encoded(RGB.quantize(64), transparency=3),
    "grey-transparent": encoded(GREY, transparency=5),
    "rgb-16-bit": cv2.imencode(".png", noise(37, 53, 3, dtype=np.uint16))[1].tobytes(),
    "rgba-16-bit": cv2.imencode(".png", noise(37, 53, 4, dtype=np.uint16))[1].tobytes(),
    "one-pixel": encoded(Image.fromarray(noise(1, 1, 3))),
    "one-row": encoded(Image.fromarray(noise(1, 501, 3))),
    "bmp": encoded(RGB, "BMP"),
    "tiff-lzw": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "webp": encoded(RGBA, "WEBP", lossless=True, exact=True),
    "animated-gif": encoded(RGB, "GIF", save_all=True, append_images=[GREY.convert("RGB")]),
    "animated-png": encoded(RGB, "PNG", save_all=True, append_images=[GREY.convert("RGB")]),
    **{f"png-orientation-{n}": encoded(RGB, exif=oriented(n)) for n in range(1, 9)},
}


@pytest.mark.parametrize("name", MADE)
def test_lossless_pictures_equal_pillow_to_the_bit(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(MADE[name])
    np.testing.assert_array_equal(read_picture(path), as_pillow(MADE[name]))


LOSSY: dict[str, bytes] = {
    **{f"jpeg-orientation-{n}": encoded(smooth(), "JPEG", exif=oriented(n)) for n in range(1, 9)},
    "jpeg-420": encoded(RGB, "JPEG", subsampling=2),
    "jpeg-444": encoded(RGB, "JPEG", subsampling=0),
    "jpeg-progressive": encoded(RGB, "JPEG", progressive=True),
    "jpeg-grey": encoded(GREY, "JPEG"),
    "jpeg-cmyk": encoded(RGB.convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_jpeg_differs_from_pillow_by_two_levels_at_most(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(LOSSY[name])
    ours, reference = read_picture(path).astype(int), as_pillow(LOSSY[name]).astype(int)
    assert ours.shape == reference.shape
    assert np.abs(ours - reference).max() <= 2


def test_sixteen_bit_grey_keeps_the_upper_byte(tmp_path: Path) -> None:
    deep = noise(37, 53, dtype=np.uint16)
    path = tmp_path / "depth.png"
    path.write_bytes(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(read_picture(path), np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture at all",
        encoded(RGB)[:1000],
        encoded(RGB)[:-3],
        encoded(RGB, "JPEG")[:-40],
        encoded(RGB, "WEBP", lossless=True)[:500],
        encoded(RGB, "GIF")[:500],
        png_claiming(100_000, 100_000),
        png_claiming(30_000, 30_000),
    ],
    ids=[
        "empty",
        "text",
        "png-half",
        "png-end",
        "jpeg-end",
        "webp-half",
        "gif-half",
        "claims-10-giga",
        "claims-900-mega",
    ],
)
def test_damaged_pictures_are_refused_by_name(data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    with pytest.raises(SourceOpenError, match=r"broken\.png"):
        read_picture(path)
    assert "[ WARN" not in capfd.readouterr().err


def test_one_picture_is_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "one.PNG"
    path.write_bytes(encoded(RGB))
    source = open_source(path)
    assert (source.live, source.fps, source.frame_count) == (False, None, 1)
    frame = source.read()
    assert frame is not None
    assert (frame.source, frame.index, frame.media_time_s) == (str(path), 0, None)
    assert source.read() is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "c.png"):
        (tmp_path / name).write_bytes(encoded(RGB, "JPEG" if name.endswith("jpg") else "PNG"))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "d.png").mkdir()
    return tmp_path


def names(source: Any) -> list[tuple[str, int, int]]:
    found = []
    while (frame := source.read()) is not None:
        found.append((Path(frame.source).name, frame.index, frame.dropped))
    return found


@pytest.mark.parametrize("spec", ["{}", "{}/", "{}/*"])
def test_folder_and_pattern_give_pictures_sorted(spec: str, folder: Path) -> None:
    source = open_source(spec.format(folder))
    assert source.frame_count == 3
    assert names(source) == [("a.png", 0, 0), ("b.jpg", 1, 0), ("c.png", 2, 0)]
    assert source.incomplete is None


def test_broken_picture_among_others_is_logged_counted_and_skipped(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "b.jpg").write_bytes(b"broken")
    source = open_source(folder)
    with caplog.at_level(logging.WARNING):
        assert names(source) == [("a.png", 0, 0), ("c.png", 2, 1)]
    assert "b.jpg" in caplog.text
    assert source.incomplete == "1 of 3 pictures could not be read"


def test_nothing_but_broken_pictures_is_an_error(folder: Path) -> None:
    for path in folder.glob("*.[jp][pn]g"):
        if path.is_file():
            path.write_bytes(b"broken")
    with pytest.raises(SourceOpenError, match="none of the 3 pictures"):
        names(open_source(folder))


def test_a_single_broken_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"broken")
    with pytest.raises(SourceOpenError, match=r"x\.jpg \(6 bytes\) cannot be decoded"):
        open_source(tmp_path / "x.jpg").read()


def test_no_pictures_to_find(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="holds no pictures"):
        open_source(tmp_path)
    with pytest.raises(SourceNotFoundError, match="no picture matches"):
        open_source(tmp_path / "*.jpg")


def test_a_name_with_brackets_is_the_file_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "shot[1].png"
    path.write_bytes(encoded(RGB))
    assert open_source(path).read() is not None


def test_a_closed_source_gives_nothing(folder: Path) -> None:
    source = open_source(folder)
    source.close()
    assert source.read() is None

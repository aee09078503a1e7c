"""Uint8 and float results equal the Hugging Face CLIPImageProcessor's (its Pillow form) to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmedge_kernels.frame import FrameSettings

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def make_processor():
    return pytest.importorskip("transformers").CLIPImageProcessorPil


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("shortest_edge", "size"),
    [(None, (224, 224)), (256, (224, 224)), (64, (97, 101)), (50, (33, 200))],
    ids=["clip", "crop-of-larger", "padded", "padded-and-cropped"],
)
def test_photos(run, make_processor, photos, shortest_edge, size, dtype):
    processor = make_processor(
        size={"shortest_edge": shortest_edge or min(size)},
        crop_size={"height": size[0], "width": size[1]},
        do_rescale=dtype != "uint8",
        do_normalize=dtype != "uint8",
    )
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (MEAN, STD)
    chosen = FrameSettings(size=size, shortest_edge=shortest_edge, mean=MEAN, std=STD, dtype=dtype)
    for name, rgb in list(photos.items())[::3]:
        expected = processor(Image.fromarray(rgb), return_tensors="np")["pixel_values"]
        assert expected.dtype == dtype
        np.testing.assert_array_equal(run(chosen, rgb[:, :, ::-1]), expected, err_msg=name)

"""Bundles for several frames at once, from the model to the results."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.bundles import HEADER, color_goldens, word_tokenizer, write_bundle
from support.clip_folder import write_clip_folder
from support.fusion_models import cross_attention_model, declared
from torch import Tensor, nn

import mmedge
import mmedge_export as mx
from mmedge.batching import MOST_FRAMES
from mmedge.errors import ExportError, GraphError

WHOLE = """
colors (float[batch, 3, 8, 8] pixels, int64[n, l] input_ids, int64[n, l] attention_mask) => (float[batch, n] logits)
<float[8, 3] table = {0,0,0, 0,0,0, 0,0,0, 8,0,0, 0,8,0, 0,0,8, 0,0,0, 1,1,1},
 int64[1] last = {2}, int64[1] mid = {1}, int64[1] three = {3}> {
  pooled = GlobalAveragePool(pixels)
  size = Shape<start = 0, end = 1>(pixels)
  shape = Concat<axis = 0>(size, three)
  image_vec = Reshape(pooled, shape)
  rows = Gather(table, input_ids)
  weights = Cast<to = 1>(attention_mask)
  columns = Unsqueeze(weights, last)
  kept = Mul(rows, columns)
  text_vec = ReduceSum<keepdims = 0>(kept, mid)
  turned = Transpose<perm = [1, 0]>(text_vec)
  logits = MatMul(image_vec, turned)
}
"""
"""The colour model as a file whose axis of frames has a name."""


def settings(**options: Any) -> mx.Options:
    return mx.Options(merge_below=0.0, progress=False, **{"batch": True, **options})


def arrays(result: Any) -> dict[str, np.ndarray[Any, Any]]:
    if isinstance(result, mmedge.RawResult):
        return dict(result.outputs)
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def check(path: Path, prompts: list[str], **options: str) -> None:
    """A batch of frames of different sizes gives what they give alone, in one run of the image stage."""
    random = np.random.default_rng(len(prompts))
    frames = [random.integers(0, 256, (*random.integers(20, 200, 2), 3), dtype=np.uint8) for _ in range(5)]
    with mmedge.load(path, **{"engine": "onnxruntime", **options}) as model:  # type: ignore[arg-type]
        model.set_text(prompts)
        results = model.run_batch(frames)
        assert (model.max_batch, model.stats()["image"]["runs"]) == (MOST_FRAMES, 1)
        for ours, frame in zip(results, frames, strict=True):
            found, expected = arrays(ours), arrays(model(frame))
            assert found.keys() == expected.keys()
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_clip_folder(folder / "hf")
    model, inputs, task = mx.from_pretrained(folder / "hf")
    out = folder / "clip.mmedge"
    report = mx.export(model, inputs=inputs, task=task, out=out, precision="fp32", options=settings())
    assert report.verification.passed
    return out


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_clip(clip: Path, engine: str) -> None:
    pytest.importorskip(engine)
    check(clip, ["the cat", "a dog on the step", "x"], engine=engine)


def test_the_model_is_still_that_of_one_frame(clip: Path) -> None:
    with mmedge.open_bundle(clip) as bundle:
        manifest = bundle.manifest
        assert manifest.inputs["image"].tensors[0].shape == ("frames", 3, 64, 64)
        assert {t.name: t.shape for t in manifest.outputs}["logits"] == (1, "n")
        joint = next(stage for stage in manifest.stages if len(stage.label) == 2)
        assert all("frames" not in map(str, tensor.shape) for tensor in (*joint.inputs, *joint.outputs))
        assert all(golden.inputs["pixel_values"].shape[0] == 1 for golden in bundle.goldens())


def test_exported_again_it_stays_as_it_is(clip: Path, tmp_path: Path) -> None:
    """Also in another precision, which rounds, but the same for a frame alone and among others."""
    out = tmp_path / "again.mmedge"
    report = mx.export_bundle(clip, out=out, precision="int8", options=settings(batch=None, force=True))
    assert report.manifest.inputs["image"].tensors[0].shape[0] == "frames"
    check(out, ["the cat", "x"], precision="fp32")
    check(out, ["the cat", "x"], precision="int8")


def test_exported_again_for_one_frame(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.mmedge"
    report = mx.export_bundle(clip, out=out, precision="fp32", options=settings(batch=False))
    assert report.manifest.inputs["image"].tensors[0].shape == (1, 3, 64, 64)
    with mmedge.load(out) as model:
        assert model.max_batch == 1


def test_ranges_over_all_frames_are_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int8-dynamic takes its ranges over all frames"):
        mx.export_bundle(clip, out=tmp_path / "d.mmedge", precision="int8-dynamic", options=settings(batch=None))
    assert not (tmp_path / "d.mmedge").exists()


def test_compiled_prompts(tmp_path: Path) -> None:
    out = tmp_path / "cross.mmedge"
    report = cross_attention_model().export(out, merge_below=0.0, batch=True)
    assert set(report.manifest.forms) == {"compiled", "cached"}
    check(out, ["w1"])
    check(out, ["w1 w2 " * 12, "w3"])


def test_a_file_whose_axis_has_a_name(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(HEADER + WHOLE), tmp_path / "colors.onnx")
    inputs = {
        "image": mx.Image(size=(8, 8), name="pixels", interpolation="bilinear"),
        "text": mx.Text(word_tokenizer().decode(), max_length=6),
    }
    out, options = tmp_path / "colors.mmedge", settings()
    report = mx.export_onnx(
        tmp_path / "colors.onnx", inputs=inputs, task=mx.Classify("logits"), out=out, precision="fp32", options=options
    )
    assert report.manifest.inputs["image"].tensors[0].shape == ("frames", 3, 8, 8)
    check(out, ["red", "blue thing"])


class Centred(nn.Module):
    """Takes the mean over all frames away, which for one frame leaves nothing to be seen of it."""

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        lines = pixel_values.cumsum(0).mean((2, 3))
        return {"logits": lines @ torch.ones(3, 1) * (input_ids * attention_mask).sum(1)[None]}


def test_a_model_that_mixes_frames_is_refused(tmp_path: Path) -> None:
    inputs, options = declared(32, 20, 9), settings()
    with pytest.raises(
        GraphError, match=r"several frames cannot run at once: node .* \(CumSum\) sums over the repeated"
    ):
        mx.export(
            Centred(), inputs=inputs, task=mx.Classify("logits"), out=tmp_path / "m.mmedge", precision="fp32",
            options=options,
        )  # fmt: skip
    assert not (tmp_path / "m.mmedge").exists()


def test_a_model_without_a_stage_of_its_own_for_frames_is_refused(tmp_path: Path) -> None:
    """The colour model's is so cheap that it was merged into the joint stage."""
    bundle = write_bundle(tmp_path / "colors.mmedge", goldens=color_goldens())
    with pytest.raises(GraphError, match="no stage depends on frames alone"):
        mx.export_bundle(bundle, out=tmp_path / "m.mmedge", precision="fp32", options=mx.Options(batch=True))

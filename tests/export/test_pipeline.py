"""Exports from start to end, and everything that can go wrong on the way: typed errors, and nothing left behind."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

import mmedge
import mmedge_export as mx
from mmedge.errors import BundleWriteError, ExportError, GraphError, ParityError
from mmedge_export.command import export_model

WORDS = ["[PAD]", "[UNK]", "red", "blue", "cube", "ball", "the", "a"]


def tokenizer() -> str:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(words.to_str())


class Fusion(nn.Module):
    """Image tokens ask prompt tokens; an audio vector shifts the image: three modalities, five labels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.see = nn.Conv2d(3, width, 8, stride=8)
        self.say = nn.Embedding(len(WORDS), width)
        self.hear = nn.Linear(5, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))

    def forward(
        self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, audio: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        image = self.see(pixels).flatten(2).transpose(1, 2)
        text = self.say(ids)
        heard = self.hear(audio.mean(0, keepdim=True)).unsqueeze(1)
        scores = self.q(image + heard) @ self.k(text).transpose(1, 2) / 4.0
        scores = scores.masked_fill(mask[:, None, :] == 0, -1e4)
        mixed = scores.softmax(-1) @ self.v(text)
        return {"logits": mixed.mean((1, 2)), "loudness": audio.abs().mean().reshape(1)}


def declared() -> dict[str, Any]:
    return {
        "image": mx.Image(size=(32, 48), name="pixels", resize="stretch", crop="none", interpolation="bilinear"),
        "text": mx.Text(tokenizer(), max_length=12, ids="ids", mask="mask"),
        "audio": mx.Tensor(("t", 5), name="audio"),
    }


def test_three_modalities_from_torch_to_results(tmp_path: Path) -> None:
    module = Fusion()
    options = mx.Options(merge_below=0.0)
    task = mx.Classify("logits", "none")
    report = mx.export(module, inputs=declared(), task=task, out=tmp_path / "f.mmedge", options=options)
    labels = {stage.label for stage in report.manifest.stages}
    assert labels == {("audio",), ("image",), ("text",), ("audio", "image"), ("audio", "image", "text")}
    random = np.random.default_rng(0)
    with mmedge.load(report.path) as model:
        for prompts, length in ((["red cube", "the blue ball"], 4), (["a ball"], 1), (["red", "blue", "cube"], 9)):
            audio = random.standard_normal((length, 5)).astype(np.float32)
            frame = random.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            model.set_text(prompts)
            model.update("audio", audio=audio)
            result = model(frame)
            assert isinstance(result, mmedge.Classification)
            pixels = torch.from_numpy(
                np.ascontiguousarray(frame[:, :, ::-1]).transpose(2, 0, 1)[None] / np.float32(255)
            )
            rows = [[WORDS.index(word) for word in prompt.split()] for prompt in prompts]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            with torch.no_grad():
                expected = module(pixels.float(), ids, mask, torch.from_numpy(audio))["logits"].numpy()
            np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-6)


def test_the_model_card_tells_what_was_measured(tmp_path: Path) -> None:
    options = mx.Options(license="Apache-2.0", accuracy={"F1": "0.93 on 500 scenes"}, notes="Finds blocks.")
    report = mx.export(Fusion(), inputs=declared(), task=mx.Raw(), out=tmp_path / "f.mmedge", options=options)
    with mmedge.open_bundle(report.path) as bundle:
        card = bytes(bundle.read("MODEL_CARD.md")).decode()
    for words in ("Fusion", "0.93 on 500 scenes", "Finds blocks.", "Apache-2.0", "logits", "MFLOP"):
        assert words in card, words
    assert len(report.manifest.source["weights_sha256"]) == 64


def test_a_bundle_holds_no_path_of_the_machine_that_made_it(tmp_path: Path) -> None:
    report = mx.export(Fusion(), inputs=declared(), task=mx.Raw(), out=tmp_path / "f.mmedge")
    data = report.path.read_bytes()
    for path in (Path(__file__).parents[2], Path(torch.__file__).parents[1], tmp_path):
        assert bytes(path) not in data


class Deceiver(nn.Module):
    """Computes something else while it is traced, as models with a wrongly converted operator do."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        mean = pixels.mean((2, 3))
        return mean * 1.01 if torch.compiler.is_exporting() else mean


def deceive(out: Path, **options: Any) -> mx.Report:
    image = {"image": mx.Image(size=(16, 16), name="pixels")}
    return mx.export(Deceiver(), inputs=image, task=mx.Raw(), out=out, options=mx.Options(**options))


def test_a_program_that_differs_from_its_source_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="output"):
        deceive(tmp_path / "d.mmedge")
    assert list(tmp_path.iterdir()) == []


def test_force_writes_it_marked_unverified(tmp_path: Path) -> None:
    report = deceive(tmp_path / "d.mmedge", force=True)
    assert not report.manifest.variants["fp32"].verified
    assert any("unverified" in warning for warning in report.warnings)
    assert not mmedge.verify(report.path).passed
    with mmedge.open_bundle(report.path) as bundle:
        assert "**NO**" in bytes(bundle.read("MODEL_CARD.md")).decode()


def test_a_failed_export_leaves_the_bundle_that_was_there(tmp_path: Path) -> None:
    out = tmp_path / "d.mmedge"
    deceive(out, force=True)
    before = out.read_bytes()
    with pytest.raises(ParityError):
        deceive(out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB; needs the right to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=100k") != 0:
        pytest.skip(f"no right to mount a small file system: {os.strerror(ctypes.get_errno())}")
    yield place
    libc.umount2(bytes(place), 2)


class Large(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # The weights are large, the bias is small: tracers and bundles draw the line at different sizes.
        self.layer = nn.Linear(3 * 16 * 16, 100)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layer(pixels.flatten(1))


def export_large(out: Path) -> mx.Report:
    image = {"image": mx.Image(size=(16, 16), name="pixels")}
    return mx.export(Large(), inputs=image, task=mx.Raw(), out=out)


def test_a_full_disk_is_said_and_nothing_is_left(small_disk: Path) -> None:
    with pytest.raises(BundleWriteError, match="No space left"):
        export_large(small_disk / "l.mmedge")
    assert list(small_disk.iterdir()) == []


def test_a_file_size_limit_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    """The same as a full disk, where nothing may be mounted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(BundleWriteError, match="File too large"):
            export_large(tmp_path / "l.mmedge")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_weights_beyond_two_gigabytes_take_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX files end at 2 GB; here the bound is lowered, so that a small model passes it."""
    monkeypatch.setattr("mmedge_export.capture.EXTERNAL_FROM", 1000)
    report = export_large(tmp_path / "l.mmedge")
    assert report.verification.passed


def test_an_input_that_nobody_uses_is_said_and_need_not_be_given(tmp_path: Path) -> None:
    class Deaf(nn.Module):
        def forward(self, pixels: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))

    inputs = {"image": mx.Image(size=(16, 16), name="pixels"), "audio": mx.Tensor((1, 4), name="audio")}
    report = mx.export(Deaf(), inputs=inputs, task=mx.Raw(), out=tmp_path / "d.mmedge")
    assert any("'audio'" in warning for warning in report.warnings)
    with mmedge.load(report.path) as model:
        result = model(np.zeros((16, 16, 3), np.uint8))
    assert isinstance(result, mmedge.RawResult)


def test_a_model_that_draws_random_numbers_is_refused_by_node(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels + torch.randn_like(pixels)

    with pytest.raises(GraphError, match="RandomNormalLike"):
        mx.export(Noisy(), inputs={"image": mx.Image(size=(8, 8), name="pixels")}, task=mx.Raw(), out=tmp_path / "n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("inputs", "task", "message"),
    [
        ({"image": mx.Image(size=(16, 16), name="wrong")}, mx.Raw(), "cannot be called"),
        ({"image": mx.Image(size=(16, 16), name="pixels")}, mx.Classify("nothing"), "nothing"),
        ({"image": mx.Image(size=(16, 16), name="pixels")}, mx.Ground("scores", "boxes"), "scores"),
    ],
    ids=["input name", "task output", "ground outputs"],
)
def test_a_declaration_that_does_not_fit_is_refused(
    inputs: dict[str, Any], task: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        mx.export(Large(), inputs=inputs, task=task, out=tmp_path / "x.mmedge")
    assert list(tmp_path.iterdir()) == []


def test_precisions_that_are_not_offered_are_refused(tmp_path: Path) -> None:
    image = {"image": mx.Image(size=(16, 16), name="pixels")}
    with pytest.raises(ExportError, match="int3"):
        mx.export(Large(), inputs=image, task=mx.Raw(), out=tmp_path / "x.mmedge", precision="int3")


def test_an_onnx_file_made_by_others_runs_as_plain_tensors(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "models" / "ultraface_rfb_320.onnx"
    report = export_model(str(source), tmp_path / "face.mmedge", precision="fp32")
    assert report.verification.passed
    assert report.manifest.source["framework"] == "onnx"
    assert [stage.label for stage in report.manifest.stages] == [("input",)]


def test_an_onnx_file_with_a_camera_declared(data_dir: Path, tmp_path: Path) -> None:
    import cv2

    source = data_dir / "models" / "ultraface_rfb_320.onnx"
    half = 127.0 / 255.0
    image = mx.Image(
        size=(240, 320), name="input", resize="stretch", crop="none", interpolation="bilinear",
        mean=(half, half, half), std=(128 / 255, 128 / 255, 128 / 255),
    )  # fmt: skip
    out = tmp_path / "face.mmedge"
    report = mx.export_onnx(source, inputs={"image": image}, task=mx.Raw(), out=out, precision="fp32")
    face = cv2.imread(str(data_dir / "photos" / "face.jpg"))
    with mmedge.load(report.path) as model:
        result = model(face)
    assert isinstance(result, mmedge.RawResult)
    assert float(result.outputs["scores"][0, :, 1].max()) > 0.9, "there is one face in the picture"


def test_an_onnx_file_with_state_and_control_flow(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "models" / "silero_vad_op18_ifless.onnx"
    model = onnx.load(source)
    names = [value.name for value in model.graph.input]
    random = np.random.default_rng(0)
    arrays = {
        "input": random.standard_normal((1, 512)).astype(np.float32),
        "state": random.standard_normal((2, 1, 128)).astype(np.float32),
        "sr": np.array(16000, np.int64),
    }
    samples = [mx.Sample(tensors={n: arrays[n] for n in names}), mx.Sample(tensors={n: arrays[n] * 1 for n in names})]
    inputs = {
        "audio": mx.Tensor((1, 512), name="input"),
        "memory": mx.Tensor((2, 1, 128), name="state"),
        "rate": mx.Tensor((), name="sr", dtype="int64"),
    }
    options = mx.Options(samples=samples)
    out = tmp_path / "v.mmedge"
    report = mx.export_onnx(source, inputs=inputs, task=mx.Raw(), out=out, precision="fp32", options=options)
    assert report.verification.passed


def test_a_function_names_its_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_model.py").write_text(
        "import torch, mmedge_export as mx\n"
        "class Mean(torch.nn.Module):\n"
        "    def forward(self, pixels): return pixels.mean((2, 3))\n"
        "def make(): return Mean(), {'image': mx.Image(size=(8, 8), name='pixels')}, mx.Raw()\n"
    )
    monkeypatch.chdir(tmp_path)
    report = export_model("my_model:make", tmp_path / "m.mmedge")
    assert report.verification.passed


@pytest.mark.parametrize("model", ["nothing.onnx", "no_such_module:f", "os:getpid", "nonsense"])
def test_a_model_that_is_not_there_is_said(model: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=model.split(":")[0].replace(".", r"\.")):
        export_model(model, tmp_path / "x.mmedge")
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_the_exporter_is_needed_to_run(tmp_path: Path) -> None:
    """A bundle runs in a process in which torch, onnx and the exporter cannot be imported."""
    report = mx.export(Fusion(), inputs=declared(), task=mx.Classify("logits"), out=tmp_path / "f.mmedge")
    code = (
        "import sys\n"
        "absent = ('torch', 'onnx', 'onnxscript', 'transformers', 'triton', 'mmedge_export')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import numpy as np, mmedge\n"
        f"with mmedge.load({str(report.path)!r}) as model:\n"
        "    model.set_text(['red cube'])\n"
        "    model.update('audio', audio=np.zeros((3, 5), np.float32))\n"
        "    print(len(model(np.zeros((9, 9, 3), np.uint8)).scores))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_a_folder_that_is_no_bundle_is_never_replaced(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path / "precious")
    for out in (tmp_path / "precious", Path(), Path("..")):
        with pytest.raises(BundleWriteError):
            deceive(out, force=True, form=form)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_folder_bundle_gives_way_to_a_zip_and_back(tmp_path: Path) -> None:
    out = tmp_path / "b.mmedge"
    for form, is_folder in (("folder", True), ("zip", False), ("folder", True), ("folder", True)):
        deceive(out, force=True, form=form)
        assert out.is_dir() == is_folder
        assert list(tmp_path.iterdir()) == [out]
        with mmedge.open_bundle(out):
            pass


def test_exports_to_one_target_at_once_each_leave_a_whole_bundle(tmp_path: Path) -> None:
    source = tmp_path / "mean.onnx"
    save_onnx(source, "g (float[1,4] x) => (float[1,4] y) { y = Tanh(x) }", 20)
    out = tmp_path / "out" / "b.mmedge"
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: export_model(str(source), out), range(3)))
    assert all(report.verification.passed for report in reports)
    assert list(out.parent.iterdir()) == [out]
    assert mmedge.verify(out).passed


def save_onnx(path: Path, text: str, opset: int) -> None:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}'), path)


@pytest.mark.parametrize("opset", [11, 13, 14, 15, 20])
def test_old_opsets_are_staged_like_new_ones(opset: int, tmp_path: Path) -> None:
    text = """g (float[1,4] image, float[n,4] text) => (float[n,4] out)
        { j = Add(image, text)  k = Tanh(j)  s = Shape(k)  z = ConstantOfShape(s)  out = Add(k, z) }"""
    save_onnx(tmp_path / "m.onnx", text, opset)
    report = export_model(str(tmp_path / "m.onnx"), tmp_path / "m.mmedge")
    assert report.verification.passed


def test_an_onnx_file_with_several_open_axes_needs_no_samples(tmp_path: Path) -> None:
    save_onnx(tmp_path / "m.onnx", "g (float[b,t] x, float[t,5] y) => (float[b,5] out) { out = MatMul(x, y) }", 20)
    report = export_model(str(tmp_path / "m.onnx"), tmp_path / "m.mmedge")
    assert [t.shape for t in report.manifest.outputs] == [("b", 5)]


def test_names_that_files_and_bundles_cannot_hold(tmp_path: Path) -> None:
    text = """g (float[1,4] attention_mask, float[1,4] input_ids_float, float[1,4] pixel_values,
                 float[1,4] position_ids, float[1,4] token_type_ids) => (float[1,4] out)
        { a = Add(attention_mask, input_ids_float)  b = Add(pixel_values, position_ids)
          c = Add(a, b)  out = Add(c, token_type_ids) }"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 20]>\n{text}')
    for old, new in (("pixel_values", "serving_default_x:0"), ("position_ids", "a/b")):
        for value in model.graph.input:
            value.name = new if value.name == old else value.name
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
    onnx.save(model, tmp_path / "m.onnx")
    report = export_model(str(tmp_path / "m.onnx"), tmp_path / "m.mmedge")
    assert {"serving_default_x_0", "a_b"} < set(report.manifest.inputs)
    with mmedge.load(report.path) as loaded:
        for name, contract in report.manifest.inputs.items():
            loaded.update(name, **{contract.tensors[0].name: np.ones((1, 4), np.float32)})
        result = loaded()
        assert isinstance(result, mmedge.RawResult)
        np.testing.assert_array_equal(result.outputs["out"], np.full((1, 4), 5, np.float32))


@pytest.mark.parametrize("name", ["a+b", "a/b", "", "x" * 65])
def test_modalities_with_such_names_are_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="modality"):
        mx.export(Large(), inputs={name: mx.Image(size=(16, 16), name="pixels")}, task=mx.Raw(), out=tmp_path / "x")


def test_an_expensive_loop_over_text_stays_out_of_the_frame(tmp_path: Path) -> None:
    """What a loop costs cannot be told from shapes: it must not be taken for cheap."""
    eye = ", ".join("1" if i % 65 == 0 else "0" for i in range(64 * 64))
    text = f"""g (float[1,64] image, float[1,64] text) => (float[1,64] out)
        <int64 trips = {{2000}}, bool go = {{1}}, float[64,64] w = {{{eye}}}>
        {{ said = Loop (trips, go, text) <
             body = b (int64 i, bool c, float[1,64] state) => (bool keep, float[1,64] next)
               {{ keep = Identity(c)  next = MatMul(state, w) }} >
           out = Mul(image, said) }}"""
    save_onnx(tmp_path / "m.onnx", text, 20)
    report = export_model(str(tmp_path / "m.onnx"), tmp_path / "m.mmedge", precision="fp32")
    assert ("text",) in [stage.label for stage in report.manifest.stages]


def test_axes_are_named_only_where_they_follow_an_input(tmp_path: Path) -> None:
    text = """g (float[n,4] a, float[t,4] b) => (float[n,4] same, float[k,4] cut, float[m] largest)
        <int64[1] zero = {0}, int64[1] sixteen = {16}>
        { same = Tanh(a)  head = Slice(b, zero, sixteen, zero)  cut = Exp(head)
          n = Shape<end=1>(a)  t = Shape<end=1>(b)  most = Max(n, t)  largest = ConstantOfShape(most) }"""
    save_onnx(tmp_path / "m.onnx", text, 20)
    report = export_model(str(tmp_path / "m.onnx"), tmp_path / "m.mmedge")
    shapes = {tensor.name: tensor.shape for tensor in report.manifest.outputs}
    assert shapes["same"] == ("n", 4)
    assert shapes["cut"][0] not in ("n", "t", 16)
    assert shapes["largest"][0] not in ("n", "t")


class Odd(nn.Module):
    """Returns whatever it is told to."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.answer(pixels)


@pytest.mark.parametrize(
    ("module", "image", "message"),
    [
        (Odd(lambda p: None), mx.Image(size=(8, 8), name="pixels"), "NoneType"),
        (Odd(lambda p: {"a": 1}), mx.Image(size=(8, 8), name="pixels"), "tensors"),
        (Odd(lambda p: [p.mean(), "x"]), mx.Image(size=(8, 8), name="pixels"), "str"),
        (Odd(lambda p: (p.mean(), p.sum())), mx.Image(size=(8, 8), name="pixels"), "2 tensors"),
        (Odd(lambda p: p), mx.Tensor(("batch size", 3), name="pixels", dtype="float33"), "float33"),
        (Odd(lambda p: 1 / 0), mx.Image(size=(8, 8), name="pixels"), "division"),
    ],
    ids=["none", "mapping without tensors", "list with a string", "unnamed outputs", "dtype", "raises"],
)
def test_models_that_cannot_be_exported_are_told_why(module: Odd, image: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        mx.export(module, inputs={"image": image}, task=mx.Raw(), out=tmp_path / "x.mmedge")
    assert list(tmp_path.iterdir()) == []


def test_axes_may_have_any_name(tmp_path: Path) -> None:
    inputs = {"imu": mx.Tensor(("batch size", "t.0", 3), name="pixels")}
    report = mx.export(Odd(lambda p: p * 2), inputs=inputs, task=mx.Raw(), out=tmp_path / "x.mmedge")
    assert report.manifest.outputs[0].shape == ("batch size", "t.0", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (float[1,4] x) => (float[1,4] x) { y = Tanh(x) }", "handed through"),
        ("g (float[1,4] x) => (seq(float[1,4]) y) { y = SequenceConstruct(x, x) }", "tensors of numbers"),
    ],
    ids=["handed through", "sequence"],
)
def test_outputs_that_no_bundle_can_give_are_refused(text: str, message: str, tmp_path: Path) -> None:
    save_onnx(tmp_path / "m.onnx", text, 20)
    with pytest.raises(ExportError, match=message):
        export_model(str(tmp_path / "m.onnx"), tmp_path / "m.mmedge")

"""CLIP from a Hugging Face folder to frames: the stages are the right ones, and nothing of the result changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.clip_folder import write_clip_folder
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import mmedge
import mmedge_export as mx
from mmedge.errors import BundleIntegrityError, ExportError

PROMPTS = ["the cat", "a dog on the step", "x", "the cat and the dog, both asleep!", "two", "three", "four", "the the"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, inputs, task = mx.from_pretrained(folder)
    out = tmp_path_factory.mktemp("bundle") / "clip.mmedge"
    report = mx.export(model, inputs=inputs, task=task, out=out, precision="fp32")
    assert report.verification.passed
    assert report.warnings == ()
    return out


def frames(count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    random = np.random.default_rng(5)
    sizes = [(48, 64), (64, 48), (97, 131), (480, 640), (33, 500)]
    return [random.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(count)]


def test_the_stages_are_text_image_and_joint(bundle: Path) -> None:
    with mmedge.open_bundle(bundle) as opened:
        stages = opened.manifest.stages
        assert [stage.label for stage in stages] == [("image",), ("text",), ("image", "text")]
        image, text, joint = (stage.cost.flops for stage in stages)
        assert joint < 0.01 * min(image, text)
        assert opened.manifest.inputs["text"].tensors[0].shape == ("n", "l")
        shapes = {tensor.name: tensor.shape for tensor in opened.manifest.outputs}
        assert shapes == {"logits": (1, "n"), "image_embedding": (1, 32), "text_embedding": ("n", 32)}


def test_scores_and_embeddings_equal_transformers(bundle: Path, folder: Path) -> None:
    """The whole way, from BGR frames and words, against the processor, tokenizer and model of transformers."""
    clip = CLIPModel.from_pretrained(folder).eval()
    processor, tokenizer = CLIPImageProcessorPil.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    with mmedge.load(bundle) as model:
        for count, frame in zip((8, 1, 3, 5, 2), frames(5), strict=True):
            model.set_text(PROMPTS[:count])
            result = model(frame)
            tokens = tokenizer(PROMPTS[:count], padding=True, return_tensors="pt")
            rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            pixels = processor(images=[rgb], input_data_format="channels_last", return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                expected = clip(pixel_values=pixels, **tokens)
            scores = expected.logits_per_image.softmax(-1)[0].numpy()
            assert isinstance(result, mmedge.Classification)
            assert result.labels == tuple(PROMPTS[:count])
            np.testing.assert_allclose(result.scores, scores, rtol=1e-4)
            for ours, theirs in (
                (result.image_embedding, expected.image_embeds[0]),
                (result.text_embedding, expected.text_embeds),
            ):
                assert ours is not None
                error = np.linalg.norm(ours.reshape(theirs.shape) - theirs.numpy()) / np.linalg.norm(theirs.numpy())
                assert error < 1e-4


def test_after_set_text_frames_do_not_run_the_text_stage(bundle: Path) -> None:
    with mmedge.load(bundle) as model:
        model.set_text(PROMPTS)
        before = {name: stats["runs"] for name, stats in model.stats().items()}
        frame = frames(1)[0]
        for _ in range(100):
            model(frame)
        after = {name: stats["runs"] for name, stats in model.stats().items()}
    ran = {name: after[name] - before[name] for name in after}
    assert ran == {"image": 100, "text": 0, "image+text": 100}


def test_verify_replays_the_processors_of_the_source(bundle: Path) -> None:
    verification = mmedge.verify(bundle)
    assert verification.passed
    assert set(verification.errors) == {"logits", "image_embedding", "text_embedding"}
    assert all(error is not None and error < 1e-4 for error in verification.errors.values())
    assert all(p.pixels_max_abs == 0.0 and p.tokens_equal for p in verification.preparation)
    assert len(verification.preparation) == verification.samples == 3


def test_a_folder_bundle_gives_the_same_scores(folder: Path, bundle: Path, tmp_path: Path) -> None:
    model, inputs, task = mx.from_pretrained(folder)
    options = mx.Options(form="folder")
    mx.export(model, inputs=inputs, task=task, out=tmp_path / "clip", precision="fp32", options=options)
    assert (tmp_path / "clip" / "manifest.json").is_file()
    with mmedge.load(bundle) as packed, mmedge.load(tmp_path / "clip") as unpacked:
        for model_ in (packed, unpacked):
            model_.set_text(PROMPTS)
        frame = frames(1)[0]
        np.testing.assert_array_equal(packed(frame).scores, unpacked(frame).scores)


def test_embeddings_alone_need_no_joint_stage(folder: Path, tmp_path: Path) -> None:
    model, inputs, task = mx.from_pretrained(folder, task="embed")
    mx.export(model, inputs=inputs, task=task, out=tmp_path / "e.mmedge", precision="fp32")
    with mmedge.load(tmp_path / "e.mmedge") as loaded:
        loaded.set_text(PROMPTS[:2])
        result = loaded(frames(1)[0])
        assert isinstance(result, mmedge.Embedding)
        assert set(loaded.stats()) == {"image", "text"}


def test_real_tokens_are_those_of_clip(data_dir: Path, tmp_path: Path) -> None:
    """Token ids equal CLIP's own golden file wherever Hugging Face's tokenizer does; the rest is documented."""
    files = data_dir / "tokenizers" / "clip"
    source = write_clip_folder(tmp_path / "clip", tokenizer_files=files)
    _, inputs, _ = mx.from_pretrained(source)
    text = inputs["text"]
    assert isinstance(text, mx.Text)
    theirs = CLIPTokenizer.from_pretrained(source)
    from mmedge.inputs.text import TextPreprocessor

    ours = TextPreprocessor("text", text.contract, text.tokenizer_json.encode())
    golden = json.loads((files / "golden_tokens_openai_simple_tokenizer.json").read_text())
    different = []
    for case in golden:
        prompt = case["text"]
        if not prompt.strip():
            continue
        expected = theirs([prompt], truncation=True, max_length=77)["input_ids"][0]
        got = ours.encode([prompt]).tensors["input_ids"][0].tolist()
        assert got == expected, prompt
        if got != [49406, *case["ids"][:75], 49407]:
            different.append(prompt)
    assert len(golden) == 18
    # The original unescapes HTML, repairs mojibake and straightens quotes and ligatures before it splits words.
    assert different == [
        "&amp; &lt;b&gt;html&lt;/b&gt;",
        "naïve café — “quotes”",
        "ﬁ ligature № ½",
        "null\x00byte",
        "mojibake: sÃ©curitÃ©",
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "weights"),
        ("preprocessor_config.json", "preprocessor"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, damage: str, message: str) -> None:
    broken = tmp_path / "clip"
    shutil.copytree(folder, broken)
    (broken / damage).unlink()
    if damage == "tokenizer.json":
        (broken / "tokenizer_config.json").unlink()
    with pytest.raises(ExportError, match=message):
        mx.from_pretrained(broken)


def test_truncated_weights_and_missing_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "clip"
    shutil.copytree(folder, broken)
    weights = broken / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ExportError, match="weights"):
        mx.from_pretrained(broken)
    from safetensors.torch import load, save

    tensors = load(data)
    del tensors["visual_projection.weight"]
    weights.write_bytes(save(tensors))
    with pytest.raises(ExportError, match="visual_projection"):
        mx.from_pretrained(broken)


def test_another_architecture_is_refused_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ExportError, match=r"llama.*clip"):
        mx.from_pretrained(tmp_path)


def test_a_preprocessor_that_the_device_cannot_repeat_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "clip"
    shutil.copytree(folder, other)
    path = other / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 1}))
    with pytest.raises(ExportError, match="resample"):
        mx.from_pretrained(other)


def test_the_tokenizer_of_another_model_is_refused(folder: Path, data_dir: Path, tmp_path: Path) -> None:
    model, inputs, task = mx.from_pretrained(folder)
    files = data_dir / "tokenizers" / "clip"
    other = mx.from_pretrained(write_clip_folder(tmp_path / "real", tokenizer_files=files))[1]
    image, text = inputs["image"], other["text"]
    assert isinstance(text, mx.Text)
    with pytest.raises(ExportError, match="tokenizer"):
        mx.export(model, inputs={"image": image, "text": text}, task=task, out=tmp_path / "x.mmedge")
    assert list(tmp_path.glob("*x.mmedge*")) == []


def test_a_swapped_tokenizer_is_seen_when_the_bundle_is_opened(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    at = data.find(b'"vocab":{')
    changed = tmp_path / "c.mmedge"
    changed.write_bytes(data[:at] + b'"VOCAB":{' + data[at + 9 :])
    with pytest.raises(BundleIntegrityError, match=r"tokenizer\.json"):
        mmedge.open_bundle(changed)

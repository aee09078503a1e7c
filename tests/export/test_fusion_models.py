"""Whole fusion models, from torch through the finished bundle to results: what is the same, and what was compiled."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import attentions
from support.fusion_models import (
    ELSEWHERE,
    CrossAttention,
    FusionModel,
    Sizes,
    cross_attention_model,
    largest_error,
)
from support.hugging_face_models import MASKS, blip, grounding_dino, phrase_masks, vilt
from torch import Tensor, nn
from transformers.models.grounding_dino import modeling_grounding_dino

import mmedge
from mmedge.bundle import Site

TOLERANCE = 1e-4


class Exported:
    """A model, its bundle, and the errors of the bundle at sizes that were not traced."""

    def __init__(self, source: FusionModel, out: Path, **options: bool) -> None:
        self.report = source.export(out, merge_below=0.0, **options)
        with mmedge.load(self.report.path, engine="onnxruntime:cpu", threads=1) as model:
            sizes = dict.fromkeys((*ELSEWHERE, *self._where_each_form_runs(source.prompts)))
            self.errors = {each: largest_error(source, model, *each) for each in sizes}
            self.idle = [name for name, stage in model.stats().items() if not stage["runs"]]

    def _where_each_form_runs(self, prompts: int | None) -> list[tuple[int, int]]:
        """Prompts and tokens for which each form is the cheapest, the smallest of them."""
        forms, found = self.report.manifest.forms, {}
        for count, length in itertools.product((prompts,) if prompts else (1, 2, 4, 8), (1, 4, 8, 16, 32, 77)):
            costs = {name: form.flops({"n": count, "l": length}) for name, form in forms.items()}
            if costs:
                found.setdefault(min(costs, key=costs.__getitem__), (count, length))
        return list(found.values())

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.report.manifest.sites

    @property
    def stages(self) -> set[tuple[str, ...]]:
        return {stage.label for stage in self.report.manifest.stages}

    def check(self, *, openvino: bool = True) -> None:
        """Every form ran, and gave what torch gives; on OpenVINO too, unless it does not take the model."""
        assert self.report.verification.passed
        if openvino and importlib.util.find_spec("openvino"):
            found = mmedge.verify(self.report.path, engine="openvino:cpu", precision="fp32")
            assert found.passed, found.reasons
        assert not self.idle
        assert max(self.errors.values()) <= TOLERANCE, self.errors


class GroupedKeys(CrossAttention):
    """Six heads of queries and two of keys and values, each for three of them."""

    def __init__(self, sizes: Sizes) -> None:
        sizes = replace(sizes, H=6)
        super().__init__(sizes)
        self.k, self.v = (nn.Linear(sizes.D, 2 * sizes.D // sizes.H) for _ in range(2))

    def heads(self, x: Tensor) -> Tensor:
        whole = x.shape[-1] == self.sizes.D
        return super().heads(x) if whole else x.unflatten(-1, (2, -1)).transpose(1, 2).repeat_interleave(3, dim=1)


class CappedScores(CrossAttention):
    """Scores are bent before the softmax, which both foldings leave in its place."""

    def scores(self, q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        products = 5.0 * torch.tanh(q @ k.transpose(-1, -2) / 5.0)
        return products.masked_fill(mask[:, None, None, :] == 0, -1e9)


Make = Callable[[Sizes], nn.Module]
FOLDABLE: dict[str, Make] = {
    "masked_fill": CrossAttention,
    "nn.MultiheadAttention": lambda _: attentions.Module(True),
    "scaled_dot_product_attention": lambda _: attentions.Scaled(),
    "grouped keys": GroupedKeys,
    "multi-query": lambda _: attentions.MultiQuery(),
    "fused keys and values": lambda _: attentions.FusedKeysValues(),
    "batch and heads merged": lambda _: attentions.Merged(),
    "capped scores": CappedScores,
}
"""Further ones are in the tests of the compiler itself."""

BENT: dict[str, tuple[Make, str]] = {
    "q-norm": (lambda _: attentions.QueryNorm(), "q-norm"),
    "rotary": (lambda _: attentions.Rotary(), "rotary"),
    "relative bias": (lambda _: attentions.RelativeBias(), "read elsewhere"),
}
"""What stands between the image and the scores, and the word by which the report names it."""

CHAINED = Sizes(D=attentions.D, H=attentions.H, image_layers=0, text_layers=0, mlp=1)


def chain(makes: list[Make]) -> FusionModel:
    """One model whose layers are these: one export for all of them, and the sites come in their order."""
    return cross_attention_model(CHAINED, makes)


@pytest.fixture(scope="module")
def foldable(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(chain(list(FOLDABLE.values())), tmp_path_factory.mktemp("foldable") / "f.mmedge")


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(chain([make for make, _ in BENT.values()]), tmp_path_factory.mktemp("bent") / "b.mmedge")


@pytest.mark.parametrize("index", range(len(FOLDABLE)), ids=FOLDABLE)
def test_attention_as_the_field_writes_it_is_compiled(foldable: Exported, index: int) -> None:
    site = foldable.sites[index]
    assert (site.form, site.keys, site.width) == ("compiled", ("text",), attentions.D)
    assert "scores:" not in site.why, "the query projection was refused"
    assert "outputs:" not in site.why, "the output projection was refused"


def test_compiled_models_give_what_torch_gives(foldable: Exported) -> None:
    assert len(foldable.sites) == len(FOLDABLE)
    assert len(foldable.report.manifest.forms) > 1, "short and long prompts have different cheapest forms here"
    foldable.check()


@pytest.mark.parametrize("index", range(len(BENT)), ids=BENT)
def test_queries_that_are_not_linear_in_the_image_are_left_alone(bent: Exported, index: int) -> None:
    site, word = bent.sites[index], list(BENT.values())[index][1]
    assert site.keys == ("text",)
    assert "scores:" in site.why
    assert word in site.why


def test_models_that_are_compiled_in_part_give_what_torch_gives(bent: Exported) -> None:
    assert len(bent.sites) == len(BENT)
    bent.check()


def test_a_prompt_that_has_seen_the_image_is_not_compiled(tmp_path: Path) -> None:
    exported = Exported(chain([lambda _: attentions.ImageInText()]), tmp_path / "i.mmedge")
    (site,) = exported.sites
    assert site.form == "plain"
    assert site.keys == ("image", "text")
    assert "image" in site.why
    exported.check()


def test_a_deep_cross_attention_model(tmp_path: Path) -> None:
    """Layers of cross-attention, self-attention and MLP over a tower: what `benchmarks/prompt_forms.py` measures."""
    exported = Exported(cross_attention_model(Sizes(look_around=True)), tmp_path / "d.mmedge")
    exported.check()
    assert exported.stages == {("image",), ("text",), ("image", "text")}
    assert [site.form for site in exported.sites if site.keys == ("text",)] == ["compiled", "compiled"]


def test_blip_matching_asks_the_image_and_is_left_alone(tmp_path: Path) -> None:
    """Prompt tokens ask image tokens: what would have to stand still is the frame. Its tower is the image's alone,
    although the model repeats the image for every prompt before it."""
    exported = Exported(blip(), tmp_path / "b.mmedge")
    exported.check()
    (site,) = exported.sites
    assert (site.queries, site.keys, site.form) == (("text",), ("image",), "plain")
    assert "image" in site.why
    assert not exported.report.manifest.forms
    flops = {stage.label: stage.cost.flops for stage in exported.report.manifest.stages}
    assert flops[("image",)] > flops[("image", "text")], "the tower runs once for each prompt"


def test_a_single_stream_is_left_alone(tmp_path: Path) -> None:
    exported = Exported(vilt(), tmp_path / "v.mmedge")
    exported.check()
    assert {(site.keys, site.form) for site in exported.sites} == {(("image", "text"), "plain")}
    assert exported.stages == {("image",), ("text",), ("image", "text")}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(grounding_dino(), tmp_path_factory.mktemp("detector") / "g.mmedge")


def test_a_grounding_detector_is_compiled_where_its_prompt_has_not_seen_the_image(detector: Exported) -> None:
    """Of its first fusion layer the text side is a prompt; from there on, it is part of the frame."""
    from_prompt = [site for site in detector.sites if site.keys == ("text",)]
    assert [site.form for site in from_prompt] == ["compiled"]
    assert {site.form for site in detector.sites if site not in from_prompt} == {"plain"}
    # OpenVINO 2026.4 takes the axes of its TopK for others and refuses the joint stage.
    detector.check(openvino=False)


def test_the_masks_of_the_detector_are_its_own() -> None:
    """`phrase_masks` stands in for what has no ONNX operator, and gives the same."""
    original = getattr(modeling_grounding_dino, MASKS)
    generator = torch.Generator().manual_seed(0)
    ends = torch.tensor([101, 102, 1012, 1029])
    for length in (1, 2, 7, 23):
        chosen = torch.randint(0, 10, (4, length), generator=generator)
        ids = torch.where(chosen < 4, ends[chosen % 4], chosen)
        for ours, theirs in zip(phrase_masks(ids, ends), original(ids, ends), strict=True):
            assert torch.equal(ours, theirs.to(ours.dtype))
            assert ours.dtype == theirs.dtype


def test_a_model_may_be_left_as_it_is(tmp_path: Path) -> None:
    exported = Exported(chain([CrossAttention]), tmp_path / "o.mmedge", compile_prompts=False)
    (site,) = exported.sites
    assert (site.queries, site.keys, site.form) == (("image",), ("text",), "cached")
    assert not exported.report.manifest.forms
    exported.check()

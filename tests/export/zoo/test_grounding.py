"""Shapes, broadcasting and size of the grounding model."""

from __future__ import annotations

import pytest
import torch

from mmedge_export.zoo.grounding import GroundingConfig, GroundingModel

SMALL = GroundingConfig(vocabulary=20, width=72, height=48, stem=8, tower=16, tower_blocks=1, dim=16, max_tokens=9)


def model(config: GroundingConfig = SMALL) -> GroundingModel:
    torch.manual_seed(0)
    built = GroundingModel(config).eval()
    torch.nn.init.normal_(built.score.weight)
    return built


def prompts(count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count * 31 + length)
    return torch.randint(3, 20, (count, length), generator=generator), torch.ones(count, length, dtype=torch.int64)


@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 3), (5, 9), (13, 2)])
def test_shapes_and_ranges(count: int, length: int) -> None:
    with torch.no_grad():
        scores, boxes = model()(torch.randn(1, 3, 48, 72), *prompts(count, length))
    assert scores.shape == (count, 4)
    assert boxes.shape == (count, 4, 4)
    assert scores.dtype == boxes.dtype == torch.float32
    assert bool(((scores >= 0) & (scores <= 1)).all())
    assert bool((scores.diff(dim=1) <= 0).all())
    assert bool((boxes[..., 2:] > 0).all())


def test_prompts_do_not_affect_each_other() -> None:
    built, picture = model(), torch.randn(1, 3, 48, 72)
    ids, mask = prompts(6, 5)
    with torch.no_grad():
        together = built(picture, ids, mask)
        alone = [built(picture, ids[i : i + 1], mask[i : i + 1]) for i in range(6)]
    assert torch.allclose(together[0], torch.cat([scores for scores, _ in alone]), atol=1e-6)
    assert torch.allclose(together[1], torch.cat([boxes for _, boxes in alone]), atol=1e-6)


def test_padding_changes_nothing() -> None:
    built, picture = model(), torch.randn(1, 3, 48, 72)
    ids, mask = prompts(2, 4)
    longer = torch.cat([ids, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    hidden = torch.cat([mask, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    with torch.no_grad():
        short, padded = built(picture, ids, mask), built(picture, longer, hidden)
    assert torch.allclose(short[0], padded[0], atol=1e-6)
    assert torch.allclose(short[1], padded[1], atol=1e-6)


def test_batched_scenes_equal_single_scenes() -> None:
    built, pictures = model(), torch.randn(3, 3, 48, 72)
    ids, mask = prompts(2, 4)
    with torch.no_grad():
        tokens, boxes = built.image(pictures)
        logits = built.dense(tokens[:, None], ids.expand(3, 2, 4), mask.expand(3, 2, 4))
        for i in range(3):
            one, box = built.image(pictures[i : i + 1])
            assert torch.allclose(built.dense(one, ids, mask), logits[i], atol=1e-5)
            assert torch.allclose(box[0], boxes[i], atol=1e-5)


def test_boxes_start_around_their_cell() -> None:
    built = model()
    with torch.no_grad():
        boxes = built.image(torch.randn(1, 3, 48, 72))[1][0]
    centers = built.image.get_buffer("centers") / built.image.get_buffer("grid")
    assert bool((boxes[:, :2] < centers).all() and (boxes[:, 2:] > centers).all())


def test_the_default_model_is_small() -> None:
    count = sum(p.numel() for p in GroundingModel(GroundingConfig(vocabulary=60)).parameters())
    assert count <= 1_350_000


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 24"):
        GroundingModel(GroundingConfig(vocabulary=20, width=100, height=48))

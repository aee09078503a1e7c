"""Bundles and a runner for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.bundles import IMAGE_INPUT, TEXT_INPUT, WORDS, word_tokenizer, write_bundle
from support.command import Mmedge, Outcome

from mmedge.bundle import Ground, TextInput
from mmedge.cli import app

GROUND = """
joint (float[1, 3, 8, 8] pixels, int64[n, l] input_ids, int64[n, l] attention_mask)
  => (float[n, 1] scores, float[n, 1, 4] boxes)
<int64[1] one = {1}, int64[2] ones = {1, 2}, float[1] high = {0.9}, float[4] place = {0.5, 0.5, 0.25, 0.5}> {
  counts = ReduceSum<keepdims = 1>(attention_mask, one)
  lengths = Cast<to = 1>(counts)
  same = Div(lengths, lengths)
  scores = Mul(same, high)
  columns = Unsqueeze(same, one)
  boxes = Mul(columns, place)
}
"""


@pytest.fixture
def mmedge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mmedge:
    """Runs the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as left:
            app([str(argument) for argument in arguments], prog_name="mmedge")
        printed = capsys.readouterr()
        return Outcome(int(left.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The colour model: which of the words red, green and blue fits a frame."""
    return write_bundle(tmp_path / "colour.mmedge")


@pytest.fixture
def grounding_bundle(tmp_path: Path) -> Path:
    """A model that finds everything, always, in the same box with a score of 0.9: all words of the table are known."""
    words = (*WORDS, "the", "cube", "ball", "cylinder", "cone", "yellow", "left", "of")
    contract = TextInput(TEXT_INPUT.ids, TEXT_INPUT.mask, max_length=16, pad_id=0, vocab_size=len(words))
    return write_bundle(
        tmp_path / "ground.mmedge",
        {"image+text": GROUND},
        inputs={"image": IMAGE_INPUT, "text": contract},
        outputs=("scores", "boxes"),
        task=Ground("scores", "boxes"),
        tokenizer=word_tokenizer(words),
    )


@pytest.fixture
def built_in(grounding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the bundle above the built-in one."""
    monkeypatch.setattr("mmedge.loading.built_in_bundle", lambda: grounding_bundle)
    return grounding_bundle

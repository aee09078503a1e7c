"""Forms: of stages that compute the same in different ways, the cheapest for the prompts at hand runs, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import IMAGE, TEXT, signed, write_bundle

from mmedge.bundle import Form, Manifest, Raw, Term, open_bundle
from mmedge.engines import open_engine
from mmedge.errors import BundleFormatError, InputError
from mmedge.loading import load_program
from mmedge.program import StagedProgram

FORMS = {
    "short": Form((Term(10.0, ("l", "n")),)),
    "long": Form((Term(20.0, ("n",)), Term(1.0, ()))),
}
"""2 tokens cost 20 a prompt in the one and 20 and a bit in the other: short up to 2 tokens."""


def _joint(form: str, add: float) -> str:
    return f"""
joint (float[1, 3] image_vec, float[1] seen_{form}, float[n, 3] {form}_vec) => (float[1, n] logits)
<float[1] tag = {{{add}}}> {{
  turned = Transpose<perm = [1, 0]>({form}_vec)
  product = MatMul(image_vec, turned)
  shown = Mul(product, seen_{form})
  logits = Add(shown, tag)
}}
"""


def _words(form: str) -> str:
    return f"words (float[n, 3] text_vec) => (float[n, 3] {form}_vec) {{ {form}_vec = Identity(text_vec) }}"


def _pixels(form: str) -> str:
    return f"""
seen (float[1, 3, 8, 8] pixels) => (float[1] seen_{form}) <float[1] one = {{1.0}}, int64[1] flat = {{1}}> {{
  top = ReduceMax<keepdims = 0>(pixels)
  none = Sub(top, top)
  whole = Reshape(none, flat)
  seen_{form} = Add(whole, one)
}}
"""


STAGES = {
    "image": IMAGE,
    "image.short": _pixels("short"),
    "image.long": _pixels("long"),
    "text": TEXT,
    "text.short": _words("short"),
    "text.long": _words("long"),
    "image+text.short": _joint("short", 100.0),
    "image+text.long": _joint("long", 200.0),
}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[StagedProgram]:
    with open_bundle(write_bundle(tmp_path / "forms.mmedge", STAGES, forms=FORMS, task=Raw())) as bundle:
        yield load_program(bundle, open_engine(), "fp32")


def image(value: float = 1.0) -> dict[str, Any]:
    return {"pixels": np.full((1, 3, 8, 8), value, np.float32)}


def text(*tokens: int) -> dict[str, Any]:
    """One prompt of these tokens: 3 red, 4 green, 5 blue, 7 thing."""
    return {"input_ids": np.array([tokens]), "attention_mask": np.ones((1, len(tokens)), np.int64)}


def answer(program: StagedProgram, words: Any) -> float:
    inputs = {"image": program.prepare("image", image()), "text": words}
    return float(program.run(inputs)["logits"][0, 0])


def runs(program: StagedProgram) -> dict[str, int]:
    return {name: stage.runs for name, stage in program.stats().items()}


def test_the_sizes_of_the_prompt_choose_the_form(program: StagedProgram) -> None:
    assert answer(program, program.prepare("text", text(3, 4))) == 116.0
    assert answer(program, program.prepare("text", text(3, 4, 5))) == 224.0


def test_only_the_stages_of_the_chosen_form_run(program: StagedProgram) -> None:
    words = program.prepare("text", text(3))
    assert runs(program) == dict.fromkeys(STAGES, 0) | {"text": 1, "text.short": 1}
    answer(program, words)
    answer(program, words)
    expected = {"text": 1, "text.short": 1, "image": 2, "image.short": 2, "image+text.short": 2}
    assert runs(program) == dict.fromkeys(STAGES, 0) | expected


def test_prompts_that_come_back_bring_their_form_along(program: StagedProgram) -> None:
    short, long = program.prepare("text", text(3)), program.prepare("text", text(3, 4, 5))
    assert (answer(program, short), answer(program, long)) == (108.0, 224.0)
    assert program.prepare("text", text(3)) is short
    assert answer(program, program.prepare("text", text(3))) == 108.0


def test_a_form_can_be_demanded_whatever_the_sizes(program: StagedProgram) -> None:
    assert answer(program, program.prepare("text", text(3), form="long")) == 208.0
    assert answer(program, program.prepare("text", text(3, 4, 5), form="short")) == 124.0
    # What was demanded once is not what the sizes choose later.
    assert answer(program, program.prepare("text", text(3))) == 108.0


@pytest.mark.parametrize(("modality", "form"), [("text", "quick"), ("image", "short")])
def test_a_form_that_nobody_knows_is_refused(program: StagedProgram, modality: str, form: str) -> None:
    with pytest.raises(InputError, match=r"chooses between the forms \['short', 'long'\], got"):
        program.prepare(modality, text(3) if modality == "text" else image(), form=form)


def test_forms_must_be_complete_and_decided_by_one_modality(tmp_path: Path) -> None:
    with open_bundle(write_bundle(tmp_path / "forms.mmedge", STAGES, forms=FORMS, task=Raw())) as bundle:
        written = bundle.manifest.dumps()
    manifest = Manifest.loads(written)
    assert manifest.deciding == "text"
    assert manifest.dumps() == written

    lost = json.loads(written)
    lost["stages"] = [stage for stage in lost["stages"] if stage["name"] != "image+text.long"]
    with pytest.raises(BundleFormatError, match="no stage gives the outputs logits"):
        Manifest.loads(signed(lost))
    odd = json.loads(written)
    odd["forms"]["short"]["cost"][0]["axes"] = ["l", "rows"]
    with pytest.raises(BundleFormatError, match="which no one modality has"):
        Manifest.loads(signed(odd))
    stray = json.loads(written)
    del stray["forms"]["long"]
    with pytest.raises(BundleFormatError, match="belongs to form 'long', which is unknown"):
        Manifest.loads(signed(stray))

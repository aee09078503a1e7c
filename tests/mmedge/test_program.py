"""The staged program: what runs when, what is kept, and that a run sees one consistent choice of inputs."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT_INPUT, write_bundle

from mmedge.bundle import Raw, TensorInput, TensorSpec, open_bundle
from mmedge.engines import open_engine
from mmedge.errors import FrameInputError, InputError, TensorInputError, TextInputError
from mmedge.loading import load_program
from mmedge.program import StagedProgram

Program = Callable[..., StagedProgram]

IMU = "imu (float[m] turn) => (float turned) { turned = ReduceSum<keepdims = 0>(turn) }"
CONSTANTS = """
constants () => (float[1] one) { one = Constant<value = float[1] {1.0}>() }
"""
ALL = """
all (float[1, n] logits, float turned, float[1] one) => (float[1, n] steered) {
  scaled = Mul(logits, turned)
  steered = Add(scaled, one)
}
"""
THREE_STAGES = {**COLOR_STAGES, "imu": IMU, "constants": CONSTANTS, "image+imu+text": ALL}
THREE_INPUTS = {
    "image": IMAGE_INPUT,
    "text": TEXT_INPUT,
    "imu": TensorInput((TensorSpec("turn", "float32", ("m",)),)),
}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Program]:
    bundles = []

    def program(*args: Any, cache_entries: int = 16, **options: Any) -> StagedProgram:
        bundle = open_bundle(write_bundle(tmp_path / f"{len(bundles)}.mmedge", *args, **options))
        bundles.append(bundle)
        return load_program(bundle, open_engine(), "fp32", cache_entries=cache_entries)

    yield program
    for bundle in bundles:
        bundle.close()


def image(value: float) -> dict[str, Any]:
    return {"pixels": np.full((1, 3, 8, 8), value, np.float32)}


def text(*tokens: int) -> dict[str, Any]:
    """One prompt per token: 3 red, 4 green, 5 blue, 7 thing."""
    return {"input_ids": np.array([[t] for t in tokens]), "attention_mask": np.ones((len(tokens), 1), np.int64)}


def imu(*values: float) -> dict[str, Any]:
    return {"turn": np.array(values, np.float32)}


def runs(program: StagedProgram) -> dict[str, int]:
    return {name: stage.runs for name, stage in program.stats().items()}


def hits(program: StagedProgram) -> dict[str, int]:
    return {name: stage.cache_hits for name, stage in program.stats().items()}


def test_a_new_frame_runs_the_image_and_joint_stages_alone(make: Program) -> None:
    program = make()
    words = program.prepare("text", text(3, 7))
    for value in (0.25, 0.5, 1.0):
        outputs = program.run({"text": words, "image": program.prepare("image", image(value))})
        np.testing.assert_allclose(outputs["logits"], [[8 * value, 3 * value]], rtol=1e-6)
    assert runs(program) == {"image": 3, "text": 1, "image+text": 3}


def test_new_prompts_run_the_text_and_joint_stages_alone(make: Program) -> None:
    program = make()
    frame = program.prepare("image", image(1.0))
    for token, expected in ((3, 8.0), (7, 3.0), (4, 8.0)):
        outputs = program.run({"text": program.prepare("text", text(token)), "image": frame})
        np.testing.assert_allclose(outputs["logits"], [[expected]], rtol=1e-6)
    assert runs(program) == {"image": 1, "text": 3, "image+text": 3}


def test_nothing_runs_when_nothing_changed(make: Program) -> None:
    program = make()
    inputs = {"text": program.prepare("text", text(3)), "image": program.prepare("image", image(1.0))}
    first = program.run(inputs)
    again = program.run({**inputs, "text": program.prepare("text", text(3))})
    assert again["logits"] is first["logits"]
    assert runs(program) == {"image": 1, "text": 1, "image+text": 1}
    assert hits(program) == {"image": 0, "text": 1, "image+text": 1}


def test_equal_frames_are_not_compared(make: Program) -> None:
    program = make()
    assert program.prepare("image", image(1.0)) is not program.prepare("image", image(1.0))
    assert runs(program)["image"] == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"input_ids": np.array([[3, 7]]), "attention_mask": np.ones((1, 2), np.int64)}, id="shape"),
        pytest.param({"input_ids": np.array([[3], [7]]), "attention_mask": np.array([[1], [0]])}, id="mask"),
        pytest.param({"input_ids": np.array([[7], [3]]), "attention_mask": np.ones((2, 1), np.int64)}, id="order"),
    ],
)
def test_text_is_told_apart_by_everything_in_it(make: Program, other: dict[str, Any]) -> None:
    program = make()
    assert program.prepare("text", text(3, 7)) is not program.prepare("text", other)
    assert runs(program)["text"] == 2


def test_prompts_that_alternate_run_once_each(make: Program) -> None:
    program = make()
    frame = program.prepare("image", image(1.0))
    for turn in range(50):
        token = (3, 7)[turn % 2]
        outputs = program.run({"image": frame, "text": program.prepare("text", text(token))})
        np.testing.assert_allclose(outputs["logits"], [[{3: 8.0, 7: 3.0}[token]]], rtol=1e-6)
    assert runs(program)["text"] == 2
    assert hits(program)["text"] == 48


def test_the_prompt_cache_forgets_the_least_recently_used(make: Program) -> None:
    program = make(cache_entries=2)
    for token in (3, 4, 3, 5, 3, 4):
        program.prepare("text", text(token))
    assert runs(program)["text"] == 4
    assert hits(program)["text"] == 2


def test_the_prompt_cache_is_bounded_in_bytes(make: Program) -> None:
    program = make()
    one = program.prepare("text", text(3)).nbytes
    small = StagedProgram(program.manifest, stages_of(program), cache_bytes=2 * one)
    for token in (3, 4, 5, 3):
        small.prepare("text", text(token))
    assert runs(small)["text"] == 4
    none = StagedProgram(program.manifest, stages_of(program), cache_bytes=0)
    assert [none.prepare("text", text(3)).nbytes for _ in range(2)] == [one, one]
    assert runs(none)["text"] == 2


def stages_of(program: StagedProgram) -> dict[str, Any]:
    return {stage.spec.name: stage._engine for group in program._groups.values() for stage in group.stages}


@pytest.mark.parametrize("entries", [0, -1, 1.5, True])
def test_a_cache_that_holds_nothing_is_refused(make: Program, entries: Any) -> None:
    with pytest.raises(InputError, match="at least 1"):
        make(cache_entries=entries)


def test_old_values_are_let_go(make: Program) -> None:
    program = make(cache_entries=1)
    gone = []
    words = program.prepare("text", text(3))
    for value, token in ((0.1, 4), (0.2, 5), (0.3, 3)):
        frame = program.prepare("image", image(value))
        outputs = program.run({"image": frame, "text": words})
        arrays = (*frame.values.values(), *words.values.values(), *outputs.values())
        gone.append([weakref.ref(array) for array in arrays])
        words = program.prepare("text", text(token))
    del frame, outputs, arrays
    gc.collect()
    assert all(ref() is None for refs in gone[:-1] for ref in refs)


def test_only_what_other_stages_need_is_kept(make: Program) -> None:
    program = make()
    assert set(program.prepare("image", image(1.0)).values) == {"image_vec"}
    assert set(program.prepare("text", text(3)).values) == {"text_vec"}


def test_three_modalities_each_pay_for_themselves(make: Program) -> None:
    program = make(THREE_STAGES, inputs=THREE_INPUTS, outputs=("steered", "logits"), task=Raw())
    inputs = {
        "text": program.prepare("text", text(3)),
        "image": program.prepare("image", image(1.0)),
        "imu": program.prepare("imu", imu(1.0, 2.0)),
    }
    np.testing.assert_allclose(program.run(inputs)["steered"], [[8 * 3.0 + 1]], rtol=1e-6)
    before = runs(program)
    assert before == dict.fromkeys(THREE_STAGES, 1)

    inputs["imu"] = program.prepare("imu", imu(0.5))
    outputs = program.run(inputs)
    np.testing.assert_allclose(outputs["steered"], [[8 * 0.5 + 1]], rtol=1e-6)
    np.testing.assert_allclose(outputs["logits"], [[8.0]], rtol=1e-6)
    assert runs(program) == {**before, "imu": 2, "image+imu+text": 2}

    inputs["image"] = program.prepare("image", image(2.0))
    np.testing.assert_allclose(program.run(inputs)["steered"], [[16 * 0.5 + 1]], rtol=1e-6)
    assert runs(program) == {**before, "imu": 2, "image": 2, "image+text": 2, "image+imu+text": 3}

    inputs["text"] = program.prepare("text", text(7))
    np.testing.assert_allclose(program.run(inputs)["steered"], [[6 * 0.5 + 1]], rtol=1e-6)
    assert runs(program) == {**before, "imu": 2, "image": 2, "text": 2, "image+text": 3, "image+imu+text": 4}


def test_the_last_tensors_of_a_modality_are_recognised(make: Program) -> None:
    program = make(THREE_STAGES, inputs=THREE_INPUTS, outputs=("steered",), task=Raw())
    first = program.prepare("imu", imu(1.0))
    assert program.prepare("imu", imu(1.0)) is first
    program.prepare("imu", imu(2.0))
    assert program.prepare("imu", imu(1.0)) is not first


def test_two_stages_of_one_label_and_an_output_on_the_way(make: Program) -> None:
    first = "first (float[1, 3, 8, 8] pixels) => (float[1, 3, 1, 1] pooled) { pooled = GlobalAveragePool(pixels) }"
    second = "second (float[1, 3, 1, 1] pooled) => (float[1, 3] image_vec) { image_vec = Flatten(pooled) }"
    stages = {"image.a": first, "image.b": second, **{n: COLOR_STAGES[n] for n in ("text", "image+text")}}
    inputs = {"image": IMAGE_INPUT, "text": TEXT_INPUT}
    program = make(stages, inputs=inputs, outputs=("logits", "pooled"))
    chosen = {"text": program.prepare("text", text(3)), "image": program.prepare("image", image(0.5))}
    outputs = program.run(chosen)
    np.testing.assert_allclose(outputs["logits"], [[4.0]], rtol=1e-6)
    np.testing.assert_allclose(outputs["pooled"], np.full((1, 3, 1, 1), 0.5), rtol=1e-6)
    assert set(chosen["image"].values) == {"image_vec", "pooled"}


def test_an_input_may_be_needed_by_a_joint_stage_and_be_an_output(make: Program) -> None:
    joint = """
    joint (float[1, 3, 8, 8] pixels, float[m] turn) => (float[1, 3, 8, 8] turned) {
      all = ReduceSum<keepdims = 0>(turn)
      turned = Mul(pixels, all)
    }
    """
    inputs = {"image": IMAGE_INPUT, "imu": THREE_INPUTS["imu"]}
    program = make({"image+imu": joint}, inputs=inputs, outputs=("turned", "turn"), task=Raw())
    chosen = {"image": program.prepare("image", image(2.0)), "imu": program.prepare("imu", imu(3.0))}
    outputs = program.run(chosen)
    assert (outputs["turned"] == 6.0).all()
    assert outputs["turn"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("missing", "error", "hint"),
    [
        ("text", TextInputError, "set_text"),
        ("image", FrameInputError, "needs a frame"),
        ("imu", TensorInputError, r"update\('imu', turn=\.\.\.\)"),
    ],
)
def test_a_missing_modality_is_named_with_the_way_to_set_it(
    make: Program, missing: str, error: type[Exception], hint: str
) -> None:
    program = make(THREE_STAGES, inputs=THREE_INPUTS, outputs=("steered",), task=Raw())
    given = {"text": text(3), "image": image(1.0), "imu": imu(1.0)}
    inputs = {name: program.prepare(name, tensors) for name, tensors in given.items() if name != missing}
    with pytest.raises(error, match=hint):
        program.run(inputs)


def test_a_modality_that_is_an_output_itself_is_needed(make: Program) -> None:
    inputs = {"image": IMAGE_INPUT, "imu": THREE_INPUTS["imu"]}
    program = make({"image": COLOR_STAGES["image"]}, inputs=inputs, outputs=("image_vec", "turn"), task=Raw())
    assert program.needed == {"image", "imu"}
    frame = program.prepare("image", image(1.0))
    with pytest.raises(TensorInputError, match="update"):
        program.run({"image": frame})
    assert program.run({"image": frame, "imu": program.prepare("imu", imu(2.0))})["turn"].tolist() == [2.0]


SHARED = {name: TensorInput((TensorSpec(f"{name}_in", "float32", ("n", 2)),)) for name in ("left", "right")}
SUM = "sum (float[n, 2] left_in, float[n, 2] right_in) => (float[n, 2] sum) { sum = Add(left_in, right_in) }"


@pytest.mark.parametrize("rows", [(3, 1), (1, 3), (2, 5)], ids=str)
def test_an_axis_has_one_size_in_all_modalities(make: Program, rows: tuple[int, int]) -> None:
    program = make({"left+right": SUM}, inputs=SHARED, outputs=("sum",), task=Raw())
    left, right = (
        program.prepare(name, {f"{name}_in": np.ones((size, 2), np.float32)})
        for name, size in zip(SHARED, rows, strict=True)
    )
    message = rf"axis 'n' must have one size: it is {rows[0]} in 'left_in' and {rows[1]} in 'right_in'"
    with pytest.raises(TensorInputError, match=message):
        program.run({"left": left, "right": right})
    again = program.prepare("left", {"left_in": np.ones((rows[1], 2), np.float32)})
    assert program.run({"left": again, "right": right})["sum"].shape == (rows[1], 2)


def test_tensors_may_share_the_axis_of_the_prompts(make: Program) -> None:
    weigh = (
        "weigh (float[n, 3] text_vec, float[n, 2] left_in) => (float[n, 5] both) "
        "{ both = Concat<axis = 1>(text_vec, left_in) }"
    )
    inputs = {"text": TEXT_INPUT, "left": SHARED["left"]}
    program = make({"text": COLOR_STAGES["text"], "left+text": weigh}, inputs=inputs, outputs=("both",), task=Raw())
    given = {"left": program.prepare("left", {"left_in": np.ones((2, 2), np.float32)})}
    assert program.run({**given, "text": program.prepare("text", text(3, 7))})["both"].shape == (2, 5)
    with pytest.raises(TensorInputError, match="it is 2 in 'left_in' and 1 in 'attention_mask'"):
        program.run({**given, "text": program.prepare("text", text(3))})


def test_unknown_modalities_and_tensors_are_refused(make: Program) -> None:
    program = make()
    with pytest.raises(InputError, match="no modality 'smell'"):
        program.prepare("smell", {})
    with pytest.raises(TensorInputError, match="takes the tensors"):
        program.prepare("text", {"input_ids": np.array([[3]])})


def test_threads_that_change_prompts_never_mix_them_into_a_run(make: Program) -> None:
    program = make(cache_entries=2)
    expected = {3: 8.0, 7: 3.0, 6: 0.0}
    latest = {"text": program.prepare("text", text(3))}
    stop = threading.Event()
    failures: list[str] = []

    def change() -> None:
        while not stop.is_set():
            for token in expected:
                # One prompt repeated: a run that saw two lists would show two values.
                latest["text"] = program.prepare("text", text(*[token] * (token + 1)))

    def watch(value: float) -> None:
        for _ in range(400):
            inputs = {**latest, "image": program.prepare("image", image(value))}
            logits = program.run(inputs)["logits"][0]
            token = len(logits) - 1
            if token not in expected or not np.allclose(logits, expected[token] * value, rtol=1e-5):
                failures.append(f"{value}: {logits}")

    changers = [threading.Thread(target=change) for _ in range(2)]
    watchers = [threading.Thread(target=watch, args=(value,)) for value in (1.0, 0.5)]
    for thread in (*changers, *watchers):
        thread.start()
    for thread in watchers:
        thread.join()
    stop.set()
    for thread in changers:
        thread.join()
    assert failures == []

"""The partition on graphs that each hold one difficulty: the labels are the right ones, and staged equals whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.staged import Staged, parse

from mmedge.errors import GraphError

RNG = np.random.default_rng(3)
Array = np.ndarray[Any, np.dtype[Any]]


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_dual_encoder_gives_one_stage_a_tower_and_a_joint_one(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,6] image, float[n,4] text) => (float[1,n] logits)
        <float[6,5] wi = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3},
         float[4,5] wt = {3,1,4,1,5,9,2,6,5,3,5,8,9,7,9,3,2,3,8,4}>
        { a = MatMul(image, wi)  b = MatMul(text, wt)  bt = Transpose<perm=[1,0]>(b)  logits = MatMul(a, bt) }""")
    staged = Staged(model, {"image": "image", "text": "text"}, {"image": floats(1, 6), "text": floats(3, 4)}, tmp_path)
    assert staged.labels == {"image", "text", "image+text"}
    for prompts in (1, 2, 7):
        staged.check({"image": floats(1, 6), "text": floats(prompts, 4)})


def test_three_modalities_give_a_stage_for_each_combination_that_occurs(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[1,4] audio, float[n,4] text) => (float[n,4] out, float[1,4] heard)
        { seen = Sigmoid(image)  heard = Tanh(audio)  said = Exp(text)
          sensed = Mul(seen, heard)  asked = Add(said, seen)  out = Mul(asked, sensed) }""")
    inputs = {"image": floats(1, 4), "audio": floats(1, 4), "text": floats(2, 4)}
    staged = Staged(model, {"image": "image", "audio": "audio", "text": "text"}, inputs, tmp_path)
    assert staged.labels == {"image", "audio", "text", "audio+image", "image+text", "audio+image+text"}
    staged.check({"image": floats(1, 4), "audio": floats(1, 4), "text": floats(5, 4)})


def test_dependency_through_a_shape_is_none(tmp_path: Path) -> None:
    """A text mask is expanded to the batch of the image features: a number that never changes."""
    model = parse("""
        g (float[1,3,8,8] pixels, float[n,5] mask) => (float[n,5] spread, float joint)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[1] five = {5}, int64[1] minus = {-1}>
        { features = Relu(pixels)
          shape = Shape(features)
          batch = Gather<axis=0>(shape, zero)
          sized = Mul(batch, five)
          short = Div(sized, five)
          length = Shape<start=0, end=1>(mask)
          rows = Mul(length, short)
          target = Concat<axis=0>(rows, five)
          spread = Expand(mask, target)
          a = ReduceSum<keepdims=0>(features)  b = ReduceSum<keepdims=0>(spread)  joint = Add(a, b) }""")
    inputs = {"pixels": floats(1, 3, 8, 8), "mask": floats(2, 5)}
    staged = Staged(model, {"pixels": "image", "mask": "text"}, inputs, tmp_path)
    assert {plan.name for plan in staged.plans if "spread" in {v.name for v in plan.outputs}} == {"text"}
    staged.check({"pixels": floats(1, 3, 8, 8), "mask": floats(3, 5)})


def test_a_shape_of_a_joint_value_is_read_from_the_input_that_names_the_axis(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[n,4] text) => (float[n,4] joint, int64[1] count)
        { joint = Add(image, text)  count = Shape<start=0, end=1>(joint) }""")
    inputs = {"image": floats(1, 4), "text": floats(3, 4)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path)
    assert [v.name for v in staged.plan("text").outputs] == ["count"]
    staged.check({"image": floats(1, 4), "text": floats(6, 4)})


def test_weights_shared_by_two_stages_are_stored_once(tmp_path: Path) -> None:
    weights = ", ".join(str(i % 7) for i in range(32 * 32))
    model = parse(f"""
        g (float[1,32] image, float[n,32] text) => (float[1,n] out)
        <float[32,32] w = {{{weights}}}>
        {{ a = MatMul(image, w)  b = MatMul(text, w)  t = Transpose<perm=[1,0]>(b)  out = MatMul(a, t) }}""")
    inputs = {"image": floats(1, 32), "text": floats(2, 32)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path)
    assert staged.labels == {"image", "text", "image+text"}
    assert (tmp_path / "weights.bin").stat().st_size == 32 * 32 * 4
    staged.check(inputs)


def test_an_if_depends_on_what_its_branches_capture(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[n,4] text, bool night) => (float[n,4] out)
        { seen = Sigmoid(image)  said = Tanh(text)
          both = If (night) <
            then_branch = dark () => (float[n,4] d) { d = Add(said, seen) },
            else_branch = day () => (float[n,4] e) { e = Mul(said, seen) }
          >
          out = Neg(both) }""")
    sample = {"image": floats(1, 4), "text": floats(2, 4), "night": np.array(True)}
    staged = Staged(model, {"image": "image", "text": "text", "night": "clock"}, sample, tmp_path)
    assert staged.labels == {"image", "text", "clock+image+text"}
    for night in (True, False):
        staged.check({"image": floats(1, 4), "text": floats(5, 4), "night": np.array(night)})


def test_a_nested_if_depends_on_what_the_inner_one_captures(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[1,4] text, bool a, bool b) => (float[1,4] out)
        { seen = Sigmoid(image)  said = Tanh(text)
          out = If (a) <
            then_branch = t () => (float[1,4] d) {
              d = If (b) <
                then_branch = tt () => (float[1,4] x) { x = Identity(seen) },
                else_branch = te () => (float[1,4] y) { y = Neg(said) }
              > },
            else_branch = e () => (float[1,4] z) { z = Mul(said, said) }
          > }""")
    sample = {"image": floats(1, 4), "text": floats(1, 4), "a": np.array(True), "b": np.array(True)}
    staged = Staged(model, {"image": "image", "text": "text", "a": "clock", "b": "clock"}, sample, tmp_path)
    assert "clock+image+text" in staged.labels
    for a in (True, False):
        for b in (True, False):
            staged.check({**sample, "a": np.array(a), "b": np.array(b)})


def test_a_text_mask_expanded_to_the_tokens_of_the_image_is_cut_before_the_expansion(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,50,8] image, float[n,6] mask) => (float[n,50,6] scores)
        <int64[1] one = {1}, int64[3] tall = {1, 50, 1},
         float[8,6] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,
                         9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3}>
        { tokens = MatMul(image, w)
          inverse = Neg(mask)
          row = Unsqueeze(inverse, one)
          full = Expand(row, tall)
          scores = Add(tokens, full) }""")
    inputs = {"image": floats(1, 50, 8), "mask": floats(4, 6)}
    staged = Staged(model, {"image": "image", "mask": "text"}, inputs, tmp_path)
    crossing = {v.name: v.shape for v in staged.plan("text").outputs}
    assert all(len(shape or ()) == 2 or 1 in list(shape or ()) for shape in crossing.values()), crossing
    assert "full" not in crossing
    staged.check({"image": floats(1, 50, 8), "mask": floats(2, 6)})


def test_an_output_of_text_alone_comes_from_the_text_stage(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[n,4] text) => (float[n,4] embedding, float[n,4] joint)
        { embedding = Tanh(text)  joint = Mul(image, embedding) }""")
    inputs = {"image": floats(1, 4), "text": floats(2, 4)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path)
    assert [v.name for v in staged.plan("text").outputs] == ["embedding"]
    staged.check(inputs)


def test_an_input_that_nobody_uses_is_in_no_stage(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[n,4] text, float[1,9] spare) => (float[n,4] out)
        { seen = Sigmoid(image)  out = Mul(seen, text) }""")
    inputs = {"image": floats(1, 4), "text": floats(2, 4), "spare": floats(1, 9)}
    staged = Staged(model, {"image": "image", "text": "text", "spare": "spare"}, inputs, tmp_path)
    assert staged.labels == {"image", "image+text"}
    staged.check(inputs)


def test_bidirectional_fusion_makes_the_text_features_joint(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,7,4] image, float[1,l,4] text) => (float[1,7,l] match)
        { i0 = Tanh(image)  t0 = Tanh(text)
          tt = Transpose<perm=[0,2,1]>(t0)  s = MatMul(i0, tt)  p = Softmax<axis=-1>(s)  i1 = MatMul(p, t0)
          it = Transpose<perm=[0,2,1]>(i0)  r = MatMul(t0, it)  q = Softmax<axis=-1>(r)  t1 = MatMul(q, i0)
          t2 = Add(t1, t0)  t3 = Transpose<perm=[0,2,1]>(t2)  match = MatMul(i1, t3) }""")
    inputs = {"image": floats(1, 7, 4), "text": floats(1, 3, 4)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path)
    joint = {node.outputs[0].name for node in staged.plan("image+text").nodes}
    assert {"r", "q", "t1", "t2", "match"} <= joint
    for length in (1, 2, 9):
        staged.check({"image": floats(1, 7, 4), "text": floats(1, length, 4)})


@pytest.mark.parametrize("operator", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_a_random_operator_is_refused_by_name(operator: str, tmp_path: Path) -> None:
    model = parse(f"""
        g (float[1,4] image, float[1,4] text) => (float[1,4] out)
        {{ noise = {operator}(image)  out = Add(noise, text) }}""")
    sample = {"image": floats(1, 4), "text": floats(1, 4)}
    with pytest.raises(GraphError, match=operator):
        Staged(model, {"image": "image", "text": "text"}, sample, tmp_path)


def test_a_random_operator_inside_a_branch_is_refused(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, bool on) => (float[1,4] out)
        { out = If (on) <
            then_branch = t () => (float[1,4] d) { d = RandomNormalLike(image) },
            else_branch = e () => (float[1,4] z) { z = Neg(image) } > }""")
    with pytest.raises(GraphError, match="RandomNormalLike"):
        Staged(model, {"image": "image", "on": "switch"}, {"image": floats(1, 4), "on": np.array(True)}, tmp_path)


def test_a_loop_depends_on_its_inputs_and_captures(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[1,4] text) => (float[1,4] out)
        <int64 trips = {3}, bool go = {1}>
        { seen = Sigmoid(image)  said = Tanh(text)
          out = Loop (trips, go, said) <
            body = b (int64 i, bool c, float[1,4] state) => (bool keep, float[1,4] next)
              { keep = Identity(c)  next = Add(state, seen) } > }""")
    inputs = {"image": floats(1, 4), "text": floats(1, 4)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path)
    assert staged.labels == {"image", "text", "image+text"}
    staged.check({"image": floats(1, 4), "text": floats(1, 4)})


def test_constant_outputs_and_constants_used_by_several_stages(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[n,4] text) => (float[1,4] anchors, float[n,4] out)
        <float[1,4] base = {1, 2, 3, 4}>
        { anchors = Sqrt(base)  seen = Mul(image, anchors)  said = Mul(text, anchors)  out = Add(seen, said) }""")
    inputs = {"image": floats(1, 4), "text": floats(2, 4)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path)
    assert "constant" in staged.labels
    staged.check(inputs)


def test_a_recurrent_layer_runs_at_other_lengths_than_the_recorded_one(tmp_path: Path) -> None:
    """Files carry shapes of the traced sample for what a GRU gives; believing them breaks every other length."""
    weights, recurrent = ", ".join(["0.1"] * 36), ", ".join(["0.05"] * 27)
    model = parse(f"""
        g (float[t,1,4] audio, float[1,3] image) => (float[t,1,3] out)
        <float[1,9,4] w = {{{weights}}}, float[1,9,3] r = {{{recurrent}}}, int64[1] axis = {{1}},
         float[5,1,1,3] wrong>
        {{ wrong, last = GRU<hidden_size=3>(audio, w, r)
           heard = Squeeze(wrong, axis)  out = Mul(heard, image) }}""")
    sample = {"audio": floats(5, 1, 4), "image": floats(1, 3)}
    staged = Staged(model, {"audio": "audio", "image": "image"}, sample, tmp_path)
    for length in (1, 5, 11):
        staged.check({"audio": floats(length, 1, 4), "image": floats(1, 3)})


def test_cheap_stages_merge_into_their_only_consumer(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[n,4] text) => (float[n,4] out)
        { seen = Sigmoid(image)  said = Tanh(text)  out = Mul(seen, said) }""")
    inputs = {"image": floats(1, 4), "text": floats(2, 4)}
    staged = Staged(model, {"image": "image", "text": "text"}, inputs, tmp_path, merge_below=1e-3)
    assert staged.labels == {"image+text"}
    staged.check(inputs)


def test_a_stage_that_the_caller_or_two_stages_need_is_not_merged(tmp_path: Path) -> None:
    model = parse("""
        g (float[1,4] image, float[1,4] audio, float[1,4] text) => (float[1,4] a, float[1,4] b, float[1,4] said)
        { seen = Sigmoid(image)  said = Tanh(text)  a = Mul(seen, audio)  b = Add(seen, said) }""")
    inputs = {"image": floats(1, 4), "audio": floats(1, 4), "text": floats(1, 4)}
    modalities = {"image": "image", "audio": "audio", "text": "text"}
    staged = Staged(model, modalities, inputs, tmp_path, merge_below=1e-3)
    assert staged.labels == {"image", "text", "audio+image", "image+text"}
    staged.check(inputs)


def test_a_shape_is_not_read_from_an_input_of_another_modality(tmp_path: Path) -> None:
    """Two modalities name an axis alike: the rows of one must not be asked of the other."""
    model = parse("""
        g (float[n,4] a, float[n,4] b) => (float[n,4] out, float[1,4] mean)
        <int64[1] rows = {0}>
        { t = Tanh(b)  count = Shape<start=0, end=1>(t)  real = Cast<to=1>(count)  sum = ReduceSum(t, rows)
          mean = Div(sum, real)  out = Exp(a) }""")
    inputs = {"a": floats(3, 4), "b": floats(3, 4)}
    staged = Staged(model, {"a": "camera", "b": "sensor"}, inputs, tmp_path)
    assert staged.labels == {"camera", "sensor"}
    staged.check({"a": floats(2, 4), "b": floats(6, 4)})


def test_the_same_graph_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Weights are collected in sets: their order must not reach the files."""
    weights = ", ".join(f"float[32,32] w{i} = {{{', '.join([str(i + 1)] * 1024)}}}" for i in range(8))
    steps = " ".join(f"x{i + 1} = MatMul(x{i}, w{i})" for i in range(8))
    model = parse(f"g (float[1,32] x0) => (float[1,32] x8) <{weights}> {{ {steps} }}")
    written = []
    for run in range(4):
        Staged(model, {"x0": "image"}, {"x0": floats(1, 32)}, tmp_path / str(run))
        written.append([(p.name, p.read_bytes()) for p in sorted((tmp_path / str(run)).iterdir())])
    assert all(files == written[0] for files in written[1:])

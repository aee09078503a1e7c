"""What ``auto`` chooses: the fastest of what is right, measured once, and what was asked for above all."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, frame_of, write_bundle
from support.paced_engines import Pace

import mmedge
from mmedge.bundle import (
    Form,
    Golden,
    Manifest,
    Measurement,
    Raw,
    Stage,
    TensorInput,
    TensorSpec,
    Term,
    Variant,
    open_bundle,
    seal,
)
from mmedge.cache import DiskCache
from mmedge.errors import BundleError, EngineError
from mmedge.results import Classification
from mmedge.selection import Choice, EngineSpec, Selection

FP32 = Variant(True, 1e-5, {})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMEDGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rewrite(path: Path, **changes: Any) -> Path:
    """A folder bundle with other fields in its manifest; new variants take the files of fp32."""
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
    variants = changes.get("variants", manifest.variants)
    stages = changes.pop("stages", manifest.stages)
    changes["stages"] = tuple(
        replace(stage, files={name: stage.files.get(name, stage.files["fp32"]) for name in variants})
        for stage in stages
    )
    seal(path, replace(manifest, **changes))
    return path


def colors(tmp_path: Path, **changes: Any) -> Path:
    return rewrite(write_bundle(tmp_path / "colors.mmedge", form="folder"), **changes)


def choose(path: Path, engine: EngineSpec = "auto", precision: str | None = None, threads: int | None = None) -> Choice:
    with open_bundle(path) as bundle:
        return Selection(bundle, engine, precision, threads).choice


def everywhere(engine: str) -> dict[str, str]:
    return dict.fromkeys(COLOR_STAGES, engine)


def costs(table: Mapping[tuple[str, str], tuple[float, float, float]]) -> dict[tuple[str, str, str], float]:
    """(engine, variant) -> milliseconds of the stages image, text, image+text."""
    return {(*key, stage): ms for key, row in table.items() for stage, ms in zip(COLOR_STAGES, row, strict=True)}


def test_nothing_is_measured_where_there_is_nothing_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    pace.install(monkeypatch, "swift")
    assert choose(colors(tmp_path)) == Choice("fp32", everywhere("swift"), "there is nothing to choose between")
    assert pace.runs == []


def test_each_stage_gets_its_fastest_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(costs({("swift", "fp32"): (2, 9, 5), ("other", "fp32"): (8, 4, 3)}))
    pace.install(monkeypatch, "swift", "other")
    with caplog.at_level(logging.INFO, "mmedge"):
        choice = choose(colors(tmp_path))
    assert choice.precision == "fp32"
    assert choice.engines == {"image": "swift", "text": "other", "image+text": "other"}
    assert choice.why == "5.00 ms a frame, next of 3 is fp32 on swift with 7.00 ms"
    assert caplog.text.count("measuring once") == 1


def test_a_prompt_may_take_long_where_frames_are_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(costs({("swift", "fp32"): (5, 1, 2), ("swift", "int8"): (3, 90, 2)}))
    pace.install(monkeypatch, "swift")
    choice = choose(colors(tmp_path, variants={"fp32": FP32, "int8": FP32}))
    assert choice == Choice("int8", everywhere("swift"), "5.00 ms a frame, next of 2 is fp32 on swift with 7.00 ms")


def test_of_variants_that_are_as_fast_the_most_exact_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(costs({("swift", "fp32"): (9, 1, 2), ("swift", "half"): (5.2, 1, 2), ("swift", "int8"): (5, 1, 2)}))
    pace.install(monkeypatch, "swift")
    choice = choose(colors(tmp_path, variants={"fp32": FP32, "half": FP32, "int8": FP32}))
    assert choice.precision == "half"
    why = "7.20 ms a frame, and more exact than int8 on swift with 7.00 ms, which is as fast in all"
    assert choice.why == why


def test_text_counts_where_there_is_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bundle(write_bundle(tmp_path / "colors.mmedge")) as bundle:
        inputs = {"text": bundle.manifest.inputs["text"]}
        golden = bundle.goldens()[0]
    vectors = np.array([[8, 0, 0], [1, 1, 9]], np.float32)
    goldens = [Golden({n: golden.inputs[n] for n in ("input_ids", "attention_mask")}, {"text_vec": vectors})]
    path = write_bundle(
        tmp_path / "words.mmedge",
        {"text": COLOR_STAGES["text"]},
        inputs=inputs,
        outputs=("text_vec",),
        task=Raw(),
        goldens=goldens,
        form="folder",
    )
    pace = Pace({("swift", "fp32", "text"): 5.0, ("other", "fp32", "text"): 3.0})
    pace.install(monkeypatch, "swift", "other")
    assert choose(path).engines == {"text": "other"}
    assert choose(path).why.startswith("3.00 ms a frame, next of 2 is fp32 on swift with 5.00 ms")


def test_sensors_count_as_frames_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goldens = [Golden({"window": np.ones(3, np.float32)}, {"total": np.array(3, np.float32)})]
    path = write_bundle(
        tmp_path / "imu.mmedge",
        {"imu": "imu (float[t] window) => (float total) { total = ReduceSum<keepdims = 0>(window) }"},
        inputs={"imu": TensorInput((TensorSpec("window", "float32", ("t",)),))},
        outputs=("total",),
        task=Raw(),
        goldens=goldens,
        form="folder",
    )
    pace = Pace({("swift", "fp32", "imu"): 5.0, ("other", "fp32", "imu"): 3.0})
    pace.install(monkeypatch, "swift", "other")
    assert choose(path).why.startswith("3.00 ms a frame")


def test_what_does_not_give_the_goldens_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(costs({("swift", "fp32"): (1, 1, 1), ("other", "fp32"): (3, 3, 3)}), wrong={("swift", "fp32")})
    pace.install(monkeypatch, "swift", "other")
    choice = choose(colors(tmp_path))
    assert choice == Choice("fp32", everywhere("other"), "6.00 ms a frame, the only one of 2 that could be used")
    assert (
        "fp32 on swift is left out, it does not give the bundle's goldens here: output logits differs by 2 (relative)"
        in caplog.text
    )


def test_limits_count_where_a_variant_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(
        costs({("swift", "fp32"): (5, 5, 5), ("swift", "a"): (1, 1, 1), ("swift", "b"): (3, 3, 3)}),
        wrong={("swift", "a"), ("swift", "b")},
    )
    pace.install(monkeypatch, "swift")
    # All signs of the last product's factors and of the product itself turn: the cosine is -1.
    strict, lenient = Variant(True, 1e-5, {}, limits={"cosine": 0.99}), Variant(True, 1e-5, {}, limits={"cosine": -1.0})
    assert choose(colors(tmp_path, variants={"fp32": FP32, "a": strict, "b": lenient})).precision == "b"


def test_where_nothing_is_right_the_first_one_is_taken_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(wrong={("swift", "fp32"), ("other", "fp32")})
    pace.install(monkeypatch, "swift", "other")
    choice = choose(colors(tmp_path))
    assert choice == Choice("fp32", everywhere("swift"), "nothing else gives the bundle's goldens here, see the log")
    assert caplog.text.count("is left out") == 2


def test_unverified_variants_are_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(costs({("swift", "int8"): (0, 0, 0)}))
    pace.install(monkeypatch, "swift")
    path = colors(tmp_path, variants={"int8": replace(FP32, verified=False), "fp32": FP32})
    assert choose(path).precision == "fp32"
    assert choose(path, precision="int8").precision == "int8"
    assert pace.runs == []


def test_a_variant_runs_only_on_the_engines_that_it_is_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(costs({("swift", "int8"): (0, 0, 0), ("other", "int8"): (0.5, 0.5, 0.5)}))
    pace.install(monkeypatch, "swift", "other")
    path = colors(tmp_path, variants={"fp32": FP32, "int8": replace(FP32, engines=("other",))})
    assert choose(path).engines == everywhere("other")
    assert ("swift", "int8") not in pace.measured
    assert choose(path, engine="swift").precision == "fp32"
    with pytest.raises(EngineError, match="no variant that may be used is made for swift"):
        choose(path, engine="swift", precision="int8")


def test_a_variant_that_an_engine_refuses_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = {("swift", "int8"), ("other", "int8"), ("other", "fp32")}
    pace = Pace(costs({("swift", "bf16"): (2, 2, 2), ("other", "bf16"): (0, 0, 0)}), refused=refused)
    pace.install(monkeypatch, "swift", "other")
    with caplog.at_level(logging.INFO, "mmedge"):
        choice = choose(colors(tmp_path, variants={"fp32": FP32, "int8": FP32, "bf16": FP32}))
    assert (choice.precision, choice.engines) == ("bf16", everywhere("other"))
    assert (
        "variant int8 is left out: no engine runs stage 'image': swift takes no int8; other takes no int8"
        in caplog.text
    )


def test_arithmetic_that_onnxruntime_does_not_have_is_refused(tmp_path: Path) -> None:
    path = colors(tmp_path, variants={"fp32": FP32, "bf16": replace(FP32, compute="bf16")})
    assert choose(path, engine="onnxruntime").precision == "fp32"
    with pytest.raises(EngineError, match=r"made for onnxruntime:cpu; .* bf16 for any engine that rounds to bf16"):
        choose(path, engine="onnxruntime:cpu", precision="bf16")


def test_without_goldens_the_first_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    pace.install(monkeypatch, "swift", "other")
    path = rewrite(
        write_bundle(tmp_path / "c.mmedge", dict(COLOR_STAGES), form="folder"), variants={"fp32": FP32, "int8": FP32}
    )
    choice = choose(path)
    assert (choice.precision, choice.engines) == ("fp32", everywhere("swift"))
    assert "no goldens" in choice.why
    assert pace.runs == []


def measured(variant: str, engine: str, ms: float | None) -> Measurement:
    return Measurement(variant, engine, ms, True, "")


def test_what_promises_most_is_measured_first_and_the_rest_for_as_long_as_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(costs({("swift", name): (ms, 1, 1) for name, ms in {"fp32": 1, "a": 2900, "b": 2500, "c": 1}.items()}))
    pace.install(monkeypatch, "swift")
    rows = (
        measured("a", "swift", 9),
        measured("b", "swift", 3),
        measured("a", "absent", 1),
        measured("c", "swift", None),
    )
    path = colors(tmp_path, variants=dict.fromkeys(("fp32", "a", "b", "c"), FP32), measured=rows)
    with caplog.at_level(logging.INFO, "mmedge"):
        assert choose(path).precision == "b"
    assert pace.measured == {("swift", "b"), ("swift", "a")}
    assert "not measured, for lack of time: fp32, c" in caplog.text


def with_forms(manifest: Manifest) -> tuple[Stage, ...]:
    image, text, joint = manifest.stages
    return (image, text, *(replace(joint, name=f"image+text.{form}", form=form) for form in ("short", "long")))


def test_the_form_that_the_golden_chooses_counts_and_every_stage_gets_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bundle(tmp_path / "colors.mmedge", form="folder")
    with open_bundle(path) as bundle:
        stages = with_forms(bundle.manifest)
    forms = {"short": Form((Term(10.0, ("n",)),)), "long": Form((Term(25.0, ()),))}
    rewrite(path, stages=stages, forms=forms)
    ms = {("swift", "image"): 1, ("swift", "image+text.short"): 9, ("swift", "image+text.long"): 1}
    ms |= {("other", "image"): 2, ("other", "image+text.short"): 4, ("other", "image+text.long"): 50}
    pace = Pace({(engine, "fp32", stage): time for (engine, stage), time in ms.items()})
    pace.install(monkeypatch, "swift", "other")
    # The first golden has two prompts: 20 in the short form are less than 25 in the long one.
    choice = choose(path)
    assert choice.engines == {
        "image": "swift",
        "text": "swift",
        "image+text.short": "other",
        "image+text.long": "swift",
    }
    assert choice.why == "5.00 ms a frame, next of 3 is fp32 on other with 6.00 ms"


def test_what_was_measured_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(costs({("swift", "fp32"): (5, 5, 5)}))
    pace.install(monkeypatch, "swift", "other")
    path = colors(tmp_path)
    first = choose(path)
    pace.runs.clear()
    assert choose(path) == first
    assert pace.runs == []


@pytest.mark.parametrize("other", ["threads", "version", "machine", "manifest", "candidates"])
def test_what_was_measured_for_something_else_is_measured_again(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace()
    pace.install(monkeypatch, "swift", "other")
    path = colors(tmp_path)
    choose(path)
    pace.runs.clear()
    threads = 2 if other == "threads" else None
    engine: EngineSpec = {"text": "other"} if other == "candidates" else "auto"
    if other == "version":
        pace.versions["other"] = "2"
    elif other == "machine":
        monkeypatch.setattr("mmedge.selection._machine", lambda: "another one")
    elif other == "manifest":
        rewrite(path, version="2")
    choose(path, engine, threads=threads)
    assert pace.runs


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({"precision": "none", "engines": everywhere("swift"), "why": ""}).encode(),
        json.dumps({"precision": "fp32", "engines": {"image": "swift"}, "why": ""}).encode(),
        json.dumps({"precision": "fp32", "engines": everywhere("absent"), "why": ""}).encode(),
        json.dumps({"precision": "fp32", "engines": [], "why": ""}).encode(),
        json.dumps({"precision": "fp32", "engines": everywhere("swift"), "why": 3}).encode(),
        json.dumps({"precision": ["fp32"], "engines": everywhere("swift"), "why": ""}).encode(),
    ],
)
def test_an_entry_that_makes_no_sense_is_measured_again(
    entry: bytes, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace()
    pace.install(monkeypatch, "swift", "other")
    path = colors(tmp_path)
    expected = choose(path)
    (kept,) = own_cache.rglob("*.entry")
    assert DiskCache("selection").put(kept.stem, entry)
    pace.runs.clear()
    assert choose(path) == expected
    assert pace.runs


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (None, "must be a string"),
        (3, "must be a string"),
        ({"imu": "swift"}, "no stage 'imu'; it has image, text, image\\+text"),
        ({"image": "none"}, "engine must be 'auto' or one of"),
        ({"image": None}, "must be a string"),
        ("none", "engine must be 'auto' or one of"),
    ],
)
def test_engines_that_cannot_be_meant(
    engine: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pace().install(monkeypatch, "swift")
    with pytest.raises(EngineError, match=message):
        choose(colors(tmp_path), engine)


def test_an_unknown_variant(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no variant 'int4'"):
        choose(colors(tmp_path), precision="int4")


def test_an_engine_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    pace.install(monkeypatch, "swift")
    monkeypatch.setitem(mmedge.engines.ENGINES, "absent", "mmedge.engines.absent")
    monkeypatch.setattr("mmedge.selection.AUTO", ("absent", "swift"))
    assert choose(colors(tmp_path)).engines == everywhere("swift")
    monkeypatch.setattr("mmedge.selection.AUTO", ("absent",))
    with pytest.raises(
        EngineError, match="none of the engines absent can be used here: engine 'absent' needs a library"
    ):
        choose(colors(tmp_path))


def test_the_model_says_what_was_chosen_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(costs({("swift", "fp32"): (5, 5, 5), ("other", "int8"): (2, 2, 2)}))
    pace.install(monkeypatch, "swift", "other")
    variants = {"fp32": replace(FP32, engines=("swift",)), "int8": replace(FP32, engines=("other",))}
    with caplog.at_level(logging.INFO, "mmedge"), mmedge.load(colors(tmp_path, variants=variants)) as model:
        info = model.info()
        assert all(stage["runs"] == 0 for stage in model.stats().values())
        assert pace.closed == set()
    assert pace.closed == {"other"}
    assert info["precision"] == "int8"
    assert info["chosen"] == "4.00 ms a frame, next of 2 is fp32 on swift with 10.00 ms"
    assert {stage["engine"] for stage in info["stages"]} == {"other 1"}
    assert f"tiny runs as int8: {info['chosen']}" in caplog.text


def test_prompts_are_padded_to_few_lengths_for_engines_of_static_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(static_shapes={"fixed"})
    pace.install(monkeypatch, "fixed", "open")
    with open_bundle(write_bundle(tmp_path / "plain.mmedge")) as bundle:
        text = bundle.manifest.inputs["text"]
    path = colors(tmp_path, inputs={"image": _image(tmp_path), "text": replace(text, max_length=77)})
    lengths = {}
    for engine in ("fixed", "open"):
        with mmedge.load(path, engine=engine) as model:
            for words in (1, 7, 8, 40, 79):
                model.set_text(["red " * words, "blue"])
                result = model(frame_of("blue"))
                assert isinstance(result, Classification)
                assert result.top[0] == "blue" or words > 1
        lengths[engine] = [
            feeds["input_ids"].shape[1] for name, _, stage, feeds in pace.runs if (name, stage) == (engine, "text")
        ]
    assert lengths == {"fixed": [8, 8, 16, 77, 77], "open": [2, 8, 9, 41, 77]}


def _image(tmp_path: Path) -> Any:
    with open_bundle(tmp_path / "plain.mmedge") as bundle:
        return bundle.manifest.inputs["image"]


def test_the_real_engines_are_measured_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("mmedge.selection.AUTO", ("onnxruntime", "openvino"))
    path = colors(tmp_path)
    choice = choose(path)
    assert set(choice.engines.values()) <= {"onnxruntime", "openvino"}
    assert " ms a frame, next of " in choice.why
    with mmedge.load(path) as model:
        model.set_text(["red", "green"])
        result = model(frame_of("green"))
        assert isinstance(result, Classification)
        assert result.top[0] == "green"
        assert model.info()["chosen"] == choice.why

"""Run a loaded program on a bundle's goldens, and hold what it gives against the limits of its variant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mmedge.agreement import became_constant, figures, relative_error, shortfalls
from mmedge.bundle import Golden, Manifest, Variant
from mmedge.errors import BundleFormatError, InputError
from mmedge.program import Prepared, StagedProgram


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: errors, figures and reasons as in `Verification`."""

    errors: Mapping[str, float | None]
    figures: Mapping[str, float]
    reasons: tuple[str, ...]


def compare(program: StagedProgram, goldens: Sequence[Golden], variant: Variant) -> Comparison:
    """Run the goldens through a loaded program, and hold what it gives against the limits of `variant`.

    Raises:
        BundleFormatError, EngineError: As in `replay`.
    """
    replayed = replay(program, goldens)
    outputs, expected = [own for _, own in replayed], [golden.outputs for golden, _ in replayed]
    errors = _largest_errors(outputs, expected)
    agreed = figures(program.manifest.task, outputs, expected) if variant.limits and goldens else {}
    if not goldens:
        reasons = ["the bundle carries no goldens, so there is nothing to compare with; export it with samples"]
    else:
        reasons = _output_reasons(variant, errors, agreed)
        reasons.extend(
            f"output {name} is the same for all samples, and the source model's is not"
            for name in became_constant(outputs, expected)
        )
    return Comparison(errors, agreed, tuple(reasons))


def replay(program: StagedProgram, goldens: Sequence[Golden]) -> list[tuple[Golden, dict[str, npt.NDArray[Any]]]]:
    """The program's outputs for each golden in every form, and once more for the first one in the form of its sizes.

    Where frames may run at once, those of two and of three goldens do so as well; where there are fewer, some twice.

    Raises:
        BundleFormatError: A golden lacks an input or an output of the model, or its sizes contradict each other.
        EngineError: A stage failed.
    """
    forms = program.manifest.forms or (None,)
    samples = [(golden, form) for form in forms for golden in goldens] + [(golden, None) for golden in goldens[:1]]
    with usable_golden():
        results = [(golden, program.run(_prepared(program, golden, form))) for golden, form in samples]
        if program.max_batch > 1 and goldens:
            for count in (2, 3):
                results += _at_once(program, [goldens[i % len(goldens)] for i in range(count)])
    for golden, outputs in results:
        for name in outputs:
            if name not in golden.outputs:
                raise BundleFormatError(f"goldens.npz: a sample lacks the output {name!r}; export the bundle again")
    return results


def _at_once(program: StagedProgram, goldens: Sequence[Golden]) -> list[tuple[Golden, dict[str, npt.NDArray[Any]]]]:
    modality = str(program.batched)
    batch = program.prepare_batch([_tensors(program.manifest, golden, modality) for golden in goldens])
    return [
        (golden, program.run({**_prepared(program, golden, None, without=modality), modality: own}))
        for golden, own in zip(goldens, batch, strict=True)
    ]


def _largest_errors(
    outputs: Sequence[Mapping[str, npt.NDArray[Any]]], expected: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> dict[str, float | None]:
    worst: dict[str, float] = {}
    for ours, source in zip(outputs, expected, strict=True):
        for name, array in ours.items():
            worst[name] = max(worst.get(name, 0.0), relative_error(array, source[name]))
    return {name: error if math.isfinite(error) else None for name, error in worst.items()}


def _prepared(
    program: StagedProgram, golden: Golden, form: str | None, *, without: str | None = None
) -> dict[str, Prepared]:
    """What each modality but `without` gives of a golden."""
    manifest = program.manifest
    return {
        name: program.prepare(name, _tensors(manifest, golden, name), form=form if name == manifest.deciding else None)
        for name in manifest.inputs
        if name != without
    }


def _tensors(manifest: Manifest, golden: Golden, modality: str) -> dict[str, npt.NDArray[Any]]:
    names = [tensor.name for tensor in manifest.inputs[modality].tensors]
    missing = [name for name in names if name not in golden.inputs]
    if missing:
        raise BundleFormatError(f"goldens.npz: a sample lacks the inputs {', '.join(missing)}; export the bundle again")
    return {name: golden.inputs[name] for name in names}


@contextmanager
def usable_golden() -> Iterator[None]:
    """What a golden holds and no caller could give is a fault of the bundle."""
    try:
        yield
    except InputError as error:
        raise BundleFormatError(f"goldens.npz: a sample cannot be used: {error}; export the bundle again") from error


def _output_reasons(variant: Variant, errors: Mapping[str, float | None], agreed: Mapping[str, float]) -> list[str]:
    reasons = [
        f"output {name} is not finite or has another shape than the source model's"
        for name, error in errors.items()
        if error is None
    ]
    if reasons:
        return reasons
    if variant.limits:
        return list(shortfalls(agreed, variant.limits))
    return [
        f"output {name} differs by {error:.3g} (relative); at most {variant.tolerance:.3g} is accepted"
        for name, error in errors.items()
        if error is not None and error > variant.tolerance
    ]

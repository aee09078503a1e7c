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
from mmedge.program import StagedProgram


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
    outputs, expected = replay(program, goldens), [golden.outputs for golden, _ in _samples(program.manifest, goldens)]
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


def replay(program: StagedProgram, goldens: Sequence[Golden]) -> list[dict[str, npt.NDArray[Any]]]:
    """The program's outputs for each golden in every form, and once more for the first one in the form of its sizes.

    Raises:
        BundleFormatError: A golden lacks an input or an output of the model, or its sizes contradict each other.
        EngineError: A stage failed.
    """
    results = []
    for golden, form in _samples(program.manifest, goldens):
        with usable_golden():
            results.append(_run(program, golden, form))
        for tensor in program.manifest.outputs:
            if tensor.name not in golden.outputs:
                raise BundleFormatError(
                    f"goldens.npz: a sample lacks the output {tensor.name!r}; export the bundle again"
                )
    return results


def _samples(manifest: Manifest, goldens: Sequence[Golden]) -> list[tuple[Golden, str | None]]:
    every: list[tuple[Golden, str | None]] = [
        (golden, form) for form in manifest.forms or (None,) for golden in goldens
    ]
    return every + [(golden, None) for golden in goldens[:1]]


def _largest_errors(
    outputs: Sequence[Mapping[str, npt.NDArray[Any]]], expected: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> dict[str, float | None]:
    worst: dict[str, float] = {}
    for ours, source in zip(outputs, expected, strict=True):
        for name, array in ours.items():
            worst[name] = max(worst.get(name, 0.0), relative_error(array, source[name]))
    return {name: error if math.isfinite(error) else None for name, error in worst.items()}


def _run(program: StagedProgram, golden: Golden, form: str | None) -> dict[str, npt.NDArray[Any]]:
    inputs = {}
    for modality, contract in program.manifest.inputs.items():
        names = [tensor.name for tensor in contract.tensors]
        missing = [name for name in names if name not in golden.inputs]
        if missing:
            raise BundleFormatError(
                f"goldens.npz: a sample lacks the inputs {', '.join(missing)}; export the bundle again"
            )
        own = form if modality == program.manifest.deciding else None
        inputs[modality] = program.prepare(modality, {name: golden.inputs[name] for name in names}, form=own)
    return program.run(inputs)


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

"""Replaying a bundle's goldens on this device, on the engine in use: PASS or FAIL, with numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Bundle, Golden, ImageInput, TextInput
from mmedge.comparison import compare, usable_golden
from mmedge.inputs.image import ImagePreprocessor
from mmedge.inputs.text import TextPreprocessor
from mmedge.loading import image_preprocessor, load_program, open_model, text_preprocessor
from mmedge.program import StagedProgram
from mmedge.selection import Selection

_GREY_LEVEL = 1.01 / 255
"""Largest accepted difference of a pixel that is scaled to 0..1: one grey level, and rounding."""


@dataclass(frozen=True)
class SamplePreparation:
    """How one golden's frame and prompts were prepared here, compared with the source model's own processor.

    Attributes:
        sample: Its index.
        pixels_max_abs: Largest difference of the pixel tensor; None where the golden carries no frame.
        pixels_limit: The largest that is accepted: one grey level, after normalisation where there is one.
        tokens_equal: Whether the token tensors are the same; None where the golden carries no prompts.
    """

    sample: int
    pixels_max_abs: float | None
    pixels_limit: float | None
    tokens_equal: bool | None

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; a difference that is not finite (another shape, NaN) is null."""
        pixels = self.pixels_max_abs
        return {
            "sample": self.sample,
            "pixels_max_abs": None if pixels is None or not math.isfinite(pixels) else pixels,
            "pixels_limit": self.pixels_limit,
            "tokens_equal": self.tokens_equal,
        }


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        bundle: Name and version.
        precision: The variant that ran.
        engines: Each stage's engine and provider, as read back from the engine.
        samples: Number of goldens.
        tolerance: Largest accepted relative error, where `limits` is empty.
        errors: Largest ||ours - golden|| / ||golden|| of each output over all samples; None where it is not finite.
        preparation: One for each golden that carries a frame or prompts.
        reasons: Why it did not pass; () if it did.
        limits: The worst accepted value of each figure, for a variant that rounds; see `mmedge.agreement`.
        figures: What was measured of those figures.
    """

    bundle: str
    precision: str
    engines: Mapping[str, str]
    samples: int
    tolerance: float
    errors: Mapping[str, float | None]
    preparation: tuple[SamplePreparation, ...]
    reasons: tuple[str, ...]
    limits: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """The bundle gives on this device what its source model gave."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "bundle": self.bundle,
            "passed": self.passed,
            "precision": self.precision,
            "engines": dict(self.engines),
            "samples": self.samples,
            "tolerance": self.tolerance,
            "errors": dict(self.errors),
            "limits": dict(self.limits),
            "figures": {name: value if math.isfinite(value) else None for name, value in self.figures.items()},
            "preparation": [sample.to_json() for sample in self.preparation],
            "reasons": list(self.reasons),
        }


def verify(
    bundle: str | os.PathLike[str] | Bundle | None = None, *, engine: str = "auto", precision: str | None = None
) -> Verification:
    """Run every golden of a bundle through its stages, and compare with what the source model gave.

    The samples run one after the other in one program, in every form that it has, and the first one once more at the
    end, so that a stage that keeps what it should not is found as well. Where the bundle takes several frames at once,
    those of two and of three samples run so as well.

    Args:
        bundle: A path, or an open bundle, which stays open; None for the built-in one.
        engine, precision: As for `mmedge.load`: what is left open is chosen as it would be there.

    Raises:
        BundleError: The bundle cannot be read, is damaged, or its goldens are not what the model takes.
        EngineError: The engine is missing, or refused a stage.
    """
    with ExitStack() as stack:
        opened = bundle if isinstance(bundle, Bundle) else stack.enter_context(open_model(bundle))
        manifest = opened.manifest
        selection = Selection(opened, engine, precision)
        chosen = selection.choice.precision
        program = load_program(opened, selection.engines(), chosen)
        return verify_program(opened, program, chosen, image_preprocessor(manifest), text_preprocessor(opened))


def verify_program(
    bundle: Bundle,
    program: StagedProgram,
    precision: str,
    image: ImagePreprocessor | None,
    text: TextPreprocessor | None,
) -> Verification:
    """As `verify`, with stages that are loaded already.

    Args:
        program: One that nobody else uses: what it ran stays in its counters and caches. See `StagedProgram.fresh`.
        precision: The variant that it was loaded from.
        image, text: Of this bundle.

    Raises:
        BundleError, EngineError: As in `verify`.
    """
    manifest, goldens = bundle.manifest, bundle.goldens()
    variant = manifest.variants[precision]
    compared = compare(program, goldens, variant)
    with usable_golden():
        found = [_prepared(image, text, i, golden) for i, golden in enumerate(goldens)]
    preparation = tuple(p for p in found if p.pixels_max_abs is not None or p.tokens_equal is not None)
    return Verification(
        bundle=f"{manifest.name} {manifest.version}",
        precision=precision,
        engines={name: f"{stage.engine} on {stage.provider}" for name, stage in program.stats().items()},
        samples=len(goldens),
        tolerance=variant.tolerance,
        errors=compared.errors,
        preparation=preparation,
        reasons=(*compared.reasons, *_preparation_reasons(preparation)),
        limits=variant.limits,
        figures=compared.figures,
    )


def _prepared(
    image: ImagePreprocessor | None, text: TextPreprocessor | None, sample: int, golden: Golden
) -> SamplePreparation:
    pixels = limit = tokens = None
    if image is not None and golden.frame is not None:
        limit = _pixels_limit(image.contract)
        pixels = max(_max_abs(array, golden.inputs[name]) for name, array in image.tensors(golden.frame).items())
    if text is not None and golden.prompts:
        tokens = _same_tokens(text.contract, text.encode(golden.prompts).tensors, golden.inputs)
    return SamplePreparation(sample, pixels, limit, tokens)


def _pixels_limit(contract: ImageInput) -> float:
    """One grey level in the units of the pixel tensor: uint8 holds the samples as they are, the others are scaled."""
    return 1.0 if contract.tensor.dtype == "uint8" else _GREY_LEVEL / min(contract.std)


def _max_abs(ours: npt.NDArray[Any], golden: npt.NDArray[Any]) -> float:
    if ours.shape != golden.shape:
        return math.inf
    difference = float(np.abs(ours.astype(np.float64) - golden.astype(np.float64)).max())
    return difference if math.isfinite(difference) else math.inf


def _same_tokens(
    contract: TextInput, ours: Mapping[str, npt.NDArray[Any]], golden: Mapping[str, npt.NDArray[Any]]
) -> bool:
    """Equal but for padding: the source's processor may pad to another length."""
    fills = [(contract.ids.name, contract.pad_id)] + ([] if contract.mask is None else [(contract.mask.name, 0)])
    for name, fill in fills:
        a, b = ours[name], golden[name]
        if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
            return False
        common = min(a.shape[1], b.shape[1])
        if not (
            np.array_equal(a[:, :common], b[:, :common])
            and (a[:, common:] == fill).all()
            and (b[:, common:] == fill).all()
        ):
            return False
    return True


def _preparation_reasons(preparation: Sequence[SamplePreparation]) -> list[str]:
    reasons = []
    for p in preparation:
        if p.tokens_equal is False:
            reasons.append(f"sample {p.sample}: the prompts give other tokens than the source model's tokenizer")
        if p.pixels_max_abs is not None and p.pixels_limit is not None and p.pixels_max_abs > p.pixels_limit:
            reasons.append(
                f"sample {p.sample}: pixels differ by {p.pixels_max_abs:.3g}; at most {p.pixels_limit:.3g} is accepted"
            )
    return reasons

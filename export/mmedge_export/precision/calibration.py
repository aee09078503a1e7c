"""What each stage is fed when the fp32 program runs calibration samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Bundle
from mmedge.engines import Engine, EngineStage
from mmedge.loading import stage_models
from mmedge.program import StagedProgram
from mmedge_export.precision.variants import FP32

Arrays = Mapping[str, npt.NDArray[Any]]


class _Recording:
    """A stage that keeps what it is fed."""

    def __init__(self, stage: EngineStage, kept: list[Arrays]) -> None:
        self._stage = stage
        self._kept = kept
        self.engine = stage.engine
        self.provider = stage.provider
        self.fallbacks = stage.fallbacks

    def run(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        self._kept.append({name: np.array(array) for name, array in feeds.items()})
        return self._stage.run(feeds)


def record(bundle: Bundle, samples: Sequence[Arrays], engine: Engine) -> dict[str, list[Arrays]]:
    """Run `samples` through the fp32 stages, in every form that the bundle has.

    Args:
        bundle: With the variant fp32.
        samples: All input tensors of the model by name, one mapping for each sample.
        engine: Runs the stages.

    Returns:
        Stage -> what it was fed, in the order of its runs.

    Raises:
        InputError, EngineError: A sample is not what the model takes, or a stage failed.
    """
    manifest = bundle.manifest
    kept: dict[str, list[Arrays]] = {stage.name: [] for stage in manifest.stages}
    loaded = {
        model.stage.name: _Recording(engine.load(model), kept[model.stage.name]) for model in stage_models(bundle, FP32)
    }
    for form in manifest.forms or (None,):
        stages = tuple(stage for stage in manifest.stages if stage.form in (None, form))
        forms = {name: value for name, value in manifest.forms.items() if name == form}
        program = StagedProgram(replace(manifest, stages=stages, forms=forms, plans=()), loaded)
        for sample in samples:
            _run(program, sample)
    return kept


def _run(program: StagedProgram, sample: Arrays) -> None:
    program.run(
        {
            modality: program.prepare(modality, {spec.name: sample[spec.name] for spec in contract.tensors})
            for modality, contract in program.manifest.inputs.items()
        }
    )

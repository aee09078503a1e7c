"""The variants that the exporter can make, as one table."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmedge.bundle import Classify, Ground, Task, TensorSpec
from mmedge.errors import ExportError

FP32 = "fp32"
AUTO = "auto"


@dataclass(frozen=True)
class Precision:
    """One way of rounding the frame side of a program.

    Attributes:
        name: Of the variant.
        rewrite: How the stages are rewritten: ``half``, ``static`` (Q/DQ with calibrated ranges), ``symmetric`` (the
            same with zero points of 0) or ``dynamic`` (ranges computed for each run); None where the graph stays.
        cosine: Smallest accepted cosine to the source model; the other limits follow from it.
        compute: As in `mmedge.bundle.Variant`.
        engines: As in `mmedge.bundle.Variant`.
        measured_on: The engines on which ``auto`` tries it, where their CPU has `needs`.
        needs: What the CPU must have, as OpenVINO calls it; None for nothing.
        replaces: It must be faster than these on the same engine to be of use.
        why: What it is for.
    """

    name: str
    rewrite: str | None
    cosine: float
    why: str
    compute: str = "fp32"
    engines: tuple[str, ...] = ()
    measured_on: tuple[str, ...] = ()
    needs: str | None = None
    replaces: tuple[str, ...] = field(default=(FP32,))

    @property
    def calibrated(self) -> bool:
        """Its ranges are fixed, and come from sample frames."""
        return self.rewrite in ("static", "symmetric")


VARIANTS = {
    variant.name: variant
    for variant in (
        Precision(FP32, None, 1.0, "what the source computes", measured_on=("onnxruntime", "openvino"), replaces=()),
        Precision(
            "bf16", None, 0.999, "CPUs that multiply bfloat16 natively", "bf16", ("openvino",), ("openvino",), "BF16"
        ),
        Precision(
            "fp16", "half", 0.999, "GPUs, and CPUs that multiply float16 natively", measured_on=("openvino",),
            needs="FP16",
        ),
        Precision(
            "int8", "static", 0.995, "CPUs", engines=("onnxruntime", "openvino"),
            measured_on=("onnxruntime", "openvino"), replaces=(FP32, "bf16", "fp16"),
        ),
        Precision(
            "int8-dynamic", "dynamic", 0.995, "CPUs, without calibration", engines=("onnxruntime",),
            measured_on=("onnxruntime",), replaces=(FP32,),
        ),
        Precision(
            "int8-symmetric", "symmetric", 0.995, "TensorRT, which takes no zero points",
            engines=("tensorrt", "tensorrt_rtx"), replaces=(FP32, "fp16"),
        ),
    )
}  # fmt: skip
"""Name -> variant, more exact ones first."""


@dataclass(frozen=True)
class Wanted:
    """What ``precision=`` asks for.

    Attributes:
        auto: Variants are tried, and the best are kept.
        forced: Variants that the bundle carries in any case.
    """

    auto: bool
    forced: tuple[Precision, ...]


def parse_precision(precision: str) -> Wanted:
    """Read ``auto``, ``fp32``, or names with commas between them, such as ``auto,int8-symmetric``.

    Raises:
        ExportError: A name is unknown.
    """
    names = [name.strip() for name in precision.split(",")] if isinstance(precision, str) else []
    known = [AUTO, *VARIANTS]
    if not names or any(name not in known for name in names):
        raise ExportError(
            f"precision must be one of {', '.join(known)}, or several with commas between them, got {precision!r}"
        )
    return Wanted(AUTO in names, tuple(v for v in VARIANTS.values() if v.name in names and v.name != FP32))


def default_limits(task: Task, outputs: tuple[TensorSpec, ...], cosine: float) -> dict[str, float]:
    """The limits of a variant whose outputs may be off by the angle of `cosine`.

    A vector that is off by this angle differs by ``sqrt(2 (1 - cosine))`` of its length, which is the limit of the
    relative error. Of boxes, presence must agree for every prompt, and scores and overlaps may be off by as much.
    """
    length = (2.0 * (1.0 - cosine)) ** 0.5
    if isinstance(task, Ground):
        return {"presence": 1.0, "score_difference": round(length, 4), "iou": round(1.0 - length, 4)}
    kinds = {output.dtype.startswith("float") for output in outputs}
    limits = {"cosine": cosine, "relative_error": round(length, 4)} if True in kinds else {}
    limits |= {"equal": 1.0} if False in kinds else {}
    return limits | ({"top1": 1.0} if isinstance(task, Classify) else {})

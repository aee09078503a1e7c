"""Targets: what each kind of device can take, as one table.

What a runtime accepts and what a chip has comes from these documents; what was not found there is absent, and is then
neither checked nor estimated:

- ONNX operators: onnx-tensorrt, ``docs/operators.md`` (of 10.15, for the operators that no version takes) and its
  changelog; ``Attention`` since TensorRT 10.14.
- Precisions: the hardware and precision tables of the TensorRT and the TensorRT-RTX support matrices.
- Software of Jetson: the release notes of JetPack 6.x, 7.1 and 7.2.
- Ceilings: the document that each chip's `source` names. All are dense: figures that vendors give for sparse matrices
  are halved.

An architecture is one number: 87 for compute capability 8.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmedge.errors import InputError

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")

Version = tuple[int, int]


@dataclass(frozen=True)
class Chip:
    """The ceilings of one chip, for estimates.

    Attributes:
        name: As it is sold.
        architecture: Such as 87.
        memory_bytes: Of the GPU; on Jetson shared with the CPU.
        bandwidth_bytes_s: Of that memory.
        flops: Precision -> most operations a second, dense; a multiply-add counts as two. Absent: not known.
        source: Where the figures come from, and what was derived.
    """

    name: str
    architecture: int
    memory_bytes: int
    bandwidth_bytes_s: float
    flops: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Target:
    """One kind of device with the oldest software that it is expected to have.

    Attributes:
        name: As ``mmedge export --target`` takes it.
        note: What it stands for.
        architectures: GPU architectures, such as 87; () for a CPU.
        engine, engine_version: What runs the stages there, by its name in `mmedge.engines.ENGINES`.
        alternatives: Engines that may run them instead.
        cuda: CUDA version of the software, None without a GPU.
        python: Oldest and newest version of Python.
        opset: The newest ONNX opset that the engine reads.
        refused: ONNX operator -> why the engine does not take it.
        precisions: Those that at least one of the architectures has, of `PRECISIONS`.
        lacking: Precision -> the architectures that do not have it.
        dtypes: ONNX types of tensors that the engine does not take.
        variants: What ``precision="auto"`` makes beside fp32, because the device is not here to be measured; () where
            this machine is such a device, and measures.
        float64: Whether the engine computes in float64; else it narrows to float32, clamping what is too large.
        zero_points: Whether quantized tensors may have a zero point other than 0.
        plugins: How our kernels run: ``quick`` (inside TensorRT engines), ``pack`` (between engines) or ``none``.
        kernels: Names by which ``python -m mmedge_kernels.aot --target`` compiles for these architectures.
        chips: Chips of this kind whose ceilings are known.
    """

    name: str
    note: str
    architectures: tuple[int, ...]
    engine: str
    engine_version: Version
    cuda: Version | None
    python: tuple[Version, Version]
    opset: int
    refused: Mapping[str, str]
    precisions: tuple[str, ...]
    lacking: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    float64: bool = False
    zero_points: bool = False
    plugins: str = "none"
    kernels: tuple[str, ...] = ()
    chips: tuple[Chip, ...] = ()

    @property
    def runtime(self) -> str:
        """Engine and version, such as ``tensorrt 10.3``."""
        return f"{self.engine} {self.engine_version[0]}.{self.engine_version[1]}"

    def has(self, precision: str, architecture: int) -> bool:
        """Whether GPUs of `architecture` have `precision`."""
        return precision in self.precisions and architecture not in self.lacking.get(precision, ())


_TENSORRT_PYTHON = ((3, 10), (3, 13))
_GIB = 1 << 30

_INTEGER = "quantization with a zero point that is computed for each run; export a variant with symmetric Q/DQ"
_SEQUENCES = "the parser has no sequences and no optional values"
_UNKNOWN = "the parser has no such operator"

_NO_TENSORRT: Mapping[str, str] = {
    **dict.fromkeys(
        ("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"), _INTEGER
    ),
    **dict.fromkeys(
        (
            "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
            "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap",
            "SplitToSequence",
        ),
        _SEQUENCES,
    ),
    **dict.fromkeys(
        (
            "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Col2Im",
            "CenterCropPad", "Compress", "DFT", "Det", "ImageDecoder", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix",
            "Multinomial", "NegativeLogLikelihoodLoss", "RegexFullMatch", "SoftmaxCrossEntropyLoss", "StringConcat",
            "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique",
        ),
        _UNKNOWN,
    ),
}  # fmt: skip

_NO_TENSORRT_BEFORE_10_14: Mapping[str, str] = {
    **_NO_TENSORRT,
    "Attention": "the parser takes it from TensorRT 10.14 on; export with an opset below 23",
}

_NO_DTYPES = ("STRING", "INT16", "UINT16", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128")

_AGX_ORIN = Chip(
    "Jetson AGX Orin 64GB",
    87,
    64 * _GIB,
    204.8e9,
    {"fp32": 5.3e12, "fp16": 42.5e12, "bf16": 42.5e12, "int8": 85e12},
    "Jetson AGX Orin Series technical brief: 170 sparse INT8 TOPS and 5.3 FP32 TFLOPS of the GPU; half precision at "
    "half the rate of INT8, as on all tensor cores of its generation; without the DLA",
)
_ORIN_NANO = Chip(
    "Jetson Orin Nano 8GB",
    87,
    8 * _GIB,
    68e9,
    {"fp32": 1.28e12, "fp16": 10e12, "bf16": 10e12, "int8": 20e12},
    "Jetson Orin Nano data sheet: 1024 cores at 625 MHz, 20 dense INT8 TOPS; FP32 is two operations a core and clock, "
    "half precision half the rate of INT8; without the Super mode",
)
_THOR = Chip(
    "Jetson T5000",
    110,
    128 * _GIB,
    273e9,
    {"fp32": 8.06e12, "fp16": 258.5e12, "bf16": 258.5e12, "int8": 517e12, "fp8": 517e12},
    "Jetson Thor series data sheet: 2560 cores at 1.575 GHz, 1035 sparse FP8 TFLOPS, INT8 alike; FP32 is two "
    "operations a core and clock, half precision half the rate of FP8",
)
_RTX_4090 = Chip(
    "GeForce RTX 4090",
    89,
    24 * _GIB,
    1008e9,
    {"fp32": 82.6e12, "fp16": 165.2e12, "bf16": 165.2e12, "int8": 660.6e12, "fp8": 330.3e12},
    "NVIDIA Ada GPU architecture white paper; half precision and FP8 with FP32 accumulation",
)
_H100 = Chip(
    "H100 SXM",
    90,
    80 * _GIB,
    3.35e12,
    {"fp32": 66.9e12, "fp16": 989.4e12, "bf16": 989.4e12, "int8": 1978.9e12, "fp8": 1978.9e12},
    "NVIDIA H100 data sheet; FP32 without TF32",
)

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="cpu",
            note="x86-64 or aarch64, ONNX Runtime; OpenVINO where installed",
            architectures=(),
            engine="onnxruntime",
            engine_version=(1, 23),
            cuda=None,
            python=((3, 10), (3, 13)),
            opset=23,
            refused={},
            precisions=("fp32", "fp16", "bf16", "int8"),
            alternatives=("openvino",),
            float64=True,
            zero_points=True,
        ),
        Target(
            name="rtx",
            note="GeForce and RTX cards from Turing on, TensorRT-RTX; A100 too",
            architectures=(75, 80, 86, 89, 120),
            engine="tensorrt_rtx",
            engine_version=(1, 7),
            cuda=(13, 0),
            python=_TENSORRT_PYTHON,
            opset=24,
            refused=_NO_TENSORRT,
            dtypes=_NO_DTYPES,
            variants=("fp16",),
            precisions=PRECISIONS,
            # fp32: it has no float32 matrix products there, as its builder says.
            lacking={"fp32": (75,), "bf16": (75,), "int8": (75,), "fp8": (75, 80, 86)},
            kernels=("rtx", "sm_80"),
            chips=(_RTX_4090,),
        ),
        Target(
            name="jetson-orin-jp6",
            note="Jetson Orin, JetPack 6.1 and 6.2",
            architectures=(87,),
            engine="tensorrt",
            engine_version=(10, 3),
            cuda=(12, 6),
            python=((3, 10), (3, 10)),
            opset=20,
            refused=_NO_TENSORRT_BEFORE_10_14,
            dtypes=_NO_DTYPES,
            variants=("fp16",),
            precisions=("fp32", "fp16", "bf16", "int8"),
            plugins="pack",
            kernels=("jetson-orin-jp6",),
            chips=(_AGX_ORIN, _ORIN_NANO),
        ),
        Target(
            name="jetson-orin-jp7",
            note="Jetson Orin, JetPack 7.2",
            architectures=(87,),
            engine="tensorrt",
            engine_version=(10, 16),
            cuda=(13, 2),
            python=((3, 12), (3, 12)),
            opset=24,
            refused=_NO_TENSORRT,
            dtypes=_NO_DTYPES,
            variants=("fp16",),
            precisions=("fp32", "fp16", "bf16", "int8"),
            plugins="quick",
            kernels=("jetson-orin-jp7",),
            chips=(_AGX_ORIN, _ORIN_NANO),
        ),
        Target(
            name="jetson-thor",
            note="Jetson Thor, JetPack 7.1; JetPack 7.2 takes what jetson-orin-jp7 takes",
            architectures=(110,),
            engine="tensorrt",
            engine_version=(10, 13),
            cuda=(13, 0),
            python=((3, 12), (3, 12)),
            opset=22,
            refused=_NO_TENSORRT_BEFORE_10_14,
            dtypes=_NO_DTYPES,
            variants=("fp16",),
            precisions=PRECISIONS,
            plugins="quick",
            kernels=("jetson-thor",),
            chips=(_THOR,),
        ),
        Target(
            name="datacenter",
            note="A100, H100, H200",
            architectures=(80, 90),
            engine="tensorrt",
            engine_version=(11, 4),
            cuda=(13, 0),
            python=_TENSORRT_PYTHON,
            opset=24,
            refused=_NO_TENSORRT,
            dtypes=_NO_DTYPES,
            variants=("fp16",),
            precisions=PRECISIONS,
            lacking={"fp8": (80,)},
            plugins="quick",
            kernels=("datacenter",),
            chips=(_H100,),
        ),
    )
}


def target(name: str) -> Target:
    """The target called `name`.

    Raises:
        InputError: There is none of that name; the message lists those that there are.
    """
    if name not in TARGETS:
        raise InputError(f"unknown target {name!r:.80}; take one of: {', '.join(TARGETS)}")
    return TARGETS[name]

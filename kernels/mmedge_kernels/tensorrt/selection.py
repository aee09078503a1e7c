"""Which kernel of a pack computes a node: by the types and shapes of its tensors and its attributes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mmedge_kernels.errors import PackError
from mmedge_kernels.pack.launch import ALIGNMENT
from mmedge_kernels.pack.manifest import PackedKernel
from mmedge_kernels.pack.reading import KernelPack
from mmedge_kernels.specification import Constant, Parameter
from mmedge_kernels.tensorrt.operators import PluginOperator

Size: TypeAlias = int | None
"""A size that is known when the engine is built, or None."""


@dataclass(frozen=True)
class Tensor:
    """Element type, as `Parameter.type` has it without the star, and sizes."""

    type: str
    sizes: tuple[Size, ...]

    def __str__(self) -> str:
        return f"{self.type} [{', '.join('?' if size is None else str(size) for size in self.sizes)}]"


@dataclass(frozen=True)
class Binding:
    """Where a named number of a kernel comes from: input and dimension of it. size: where known."""

    input: int
    dimension: int
    size: Size


def plugin_kernels(pack: KernelPack, operator: PluginOperator) -> list[PackedKernel]:
    """The kernels of the pack that have PTX and the inputs of `operator`."""
    return [
        kernel
        for kernel in pack.kernels
        if kernel.operator == operator.operator and kernel.ptx is not None and _input_names(kernel) == operator.inputs
    ]


def input_ranks(kernel: PackedKernel) -> tuple[int, ...]:
    """Number of dimensions of each input."""
    return tuple(len(parameter.shape) for parameter in _inputs(kernel))


def select_kernel(
    pack: KernelPack,
    operator: PluginOperator,
    sm: int,
    inputs: Sequence[Tensor],
    output: Tensor,
    attributes: Mapping[str, int | float],
) -> tuple[PackedKernel, dict[str, Binding]]:
    """The kernel for a node, and where its numbers come from.

    Raises PackError when the pack has none for these types, sizes and attributes on `sm`, or more than one, and when
    the sizes contradict each other.
    """
    wanted = {attribute.constant: _constant(operator, attribute.name, attributes) for attribute in operator.attributes}
    node = (
        f"{operator.identifier}({', '.join(f'{n}: {t}' for n, t in zip(operator.inputs, inputs, strict=True))}; "
        f"{', '.join(f'{name}={value:g}' for name, value in attributes.items())})"
    )
    _check_batches(operator, inputs, node)
    fitting: dict[tuple[str, int], dict[str, Binding]] = {}
    kernels = []
    for kernel in plugin_kernels(pack, operator):
        bindings = _bind(kernel, inputs, output) if _has(kernel, wanted) else None
        if bindings is not None:
            kernels.append(kernel)
            fitting[kernel.name, kernel.sm] = bindings
    running = pack.running_on(kernels, sm, node)
    if len(running) > 1:
        raise PackError(f"{pack.path}: several kernels fit {node}: {', '.join(kernel.name for kernel in running)}")
    return running[0], fitting[running[0].name, running[0].sm]


def _check_batches(operator: PluginOperator, inputs: Sequence[Tensor], node: str) -> None:
    """A kernel takes the word of the number for it: another one would read behind the end."""
    batch = inputs[0].sizes[0]
    for name, tensor in zip(operator.inputs, inputs, strict=True):
        own = tensor.sizes[0]
        if name in operator.shared_batch and None not in (own, batch) and own not in (1, batch):
            raise PackError(f"{node}: {name} must have a first size of 1 or {batch}, it has {own}")


def _bind(kernel: PackedKernel, inputs: Sequence[Tensor], output: Tensor) -> dict[str, Binding] | None:
    """The kernel's numbers by name, or None where types or sizes do not fit."""
    parameters = _inputs(kernel)
    bindings: dict[str, Binding] = {}
    for index, (parameter, tensor) in enumerate(zip(parameters, inputs, strict=True)):
        if parameter.type != f"*{tensor.type}" or len(parameter.shape) != len(tensor.sizes):
            return None
        for dimension, (wanted, size) in enumerate(zip(parameter.shape, tensor.sizes, strict=True)):
            if isinstance(wanted, int):
                if size != wanted:
                    return None
                continue
            bound = bindings.setdefault(wanted, Binding(index, dimension, size))
            if None not in (bound.size, size) and bound.size != size:
                return None
    if kernel.parameters[-1].type != f"*{output.type}" or not _aligned(kernel, bindings):
        return None
    return bindings


def _aligned(kernel: PackedKernel, bindings: Mapping[str, Binding]) -> bool:
    """A number that the code takes for a multiple of 16 must be one for sure."""
    sizes = [bindings[p.name].size for p in kernel.parameters if not p.is_pointer and p.aligned]
    return all(size is not None and size % ALIGNMENT == 0 for size in sizes)


def _has(kernel: PackedKernel, wanted: Mapping[str, Constant]) -> bool:
    return all(name in kernel.constants and _same(kernel.constants[name], value) for name, value in wanted.items())


def _same(has: Constant, wanted: Constant) -> bool:
    if isinstance(has, float) and isinstance(wanted, float):
        return _as_float32(has) == _as_float32(wanted)  # ONNX keeps attributes in single precision
    return has == wanted and isinstance(has, bool) == isinstance(wanted, bool)


def _as_float32(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)


def _constant(operator: PluginOperator, name: str, attributes: Mapping[str, int | float]) -> Constant:
    (attribute,) = [attribute for attribute in operator.attributes if attribute.name == name]
    if name not in attributes:
        raise PackError(f"{operator.identifier} needs the attribute {name}; export the model again")
    value = attribute.type(attributes[name])
    return None if attribute.none_below_zero and value < 0 else value


def _inputs(kernel: PackedKernel) -> tuple[Parameter, ...]:
    first_number = [parameter.is_pointer for parameter in kernel.parameters].index(False)
    return kernel.parameters[:first_number]


def _input_names(kernel: PackedKernel) -> tuple[str, ...]:
    return tuple(parameter.name.removesuffix("_ptr") for parameter in _inputs(kernel))

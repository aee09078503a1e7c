"""Quick plugins: TensorRT's builder asks for a kernel and gets PTX, a grid and arguments; the engine needs no Python.

API: ``tensorrt.plugin`` of TensorRT 10.9 and newer. A kernel's arguments are inputs, whole numbers, outputs.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any

from mmedge_kernels.errors import ImplementationError, PackError
from mmedge_kernels.pack.manifest import PackedKernel
from mmedge_kernels.pack.ptx import read_ptx
from mmedge_kernels.pack.reading import KernelPack, open_pack
from mmedge_kernels.specification import GridAxis
from mmedge_kernels.tensorrt.operators import OPERATORS, PluginOperator
from mmedge_kernels.tensorrt.selection import Binding, Tensor, input_ranks, plugin_kernels, select_kernel

# trt.DataType member -> element type of a kernel's pointer.
_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "i8", "UINT8": "u8", "BOOL": "i1", "INT32": "i32"}
_THREADS_PER_WARP = 32
_SHARED_LIMIT = 48 << 10


def register_plugins(pack: KernelPack | str | os.PathLike[str], *, sm: int) -> tuple[str, ...]:
    """Make the operators of domain ``mmedge`` known to TensorRT in this process; call it before a model is parsed.

    pack: the kernels. sm: architecture of the GPU for which engines are built, such as 87.
    Returns what was registered, such as ``mmedge::prompt_attention``: the operators for which the pack has kernels that
    run on `sm`. Which kernel a node gets is decided when the engine is built; a node that none fits raises PackError
    then, with the command that makes a pack for it.
    Raises ImplementationError when TensorRT is missing or too old, and PackError when the pack has no plugin kernel for
    `sm`, or when one of the operators is registered already.
    """
    opened = pack if isinstance(pack, KernelPack) else open_pack(pack)
    trt, plugin = _tensorrt()
    chosen = []
    for operator in OPERATORS.values():
        kernels = plugin_kernels(opened, operator)
        if kernels and opened.running_on(kernels, sm, operator.identifier):
            chosen.append(operator)
    if not chosen:
        raise PackError(
            f"{opened.path} has no kernel for {', '.join(o.identifier for o in OPERATORS.values())}; make a pack with "
            f"them: python -m mmedge_kernels.aot --target sm_{sm} --out DIR"
        )
    for operator in chosen:
        _register(trt, plugin, operator, opened, sm)
    return tuple(operator.identifier for operator in chosen)


def _register(trt: Any, plugin: Any, operator: PluginOperator, pack: KernelPack, sm: int) -> None:
    forms = {input_ranks(kernel) for kernel in plugin_kernels(pack, operator)}

    def describe(*inputs: Any, **attributes: Any) -> Any:
        shapes = [tensor.shape_expr for tensor in inputs]
        ranks = tuple(map(len, shapes))
        if ranks not in forms:
            raise PackError(f"{operator.identifier} takes tensors of {sorted(forms)} dimensions, got {ranks}")
        return plugin.from_shape_expr(operator.out_shape(shapes), inputs[0].dtype)

    def implement(*arguments: Any) -> tuple[str, str, Any, Any]:
        count = len(operator.inputs)
        inputs, values, outputs = arguments[:count], arguments[count:-2], arguments[-2]
        attributes = dict(zip((a.name for a in operator.attributes), values, strict=True))
        tensors = [_tensor(trt, tensor) for tensor in inputs]
        kernel, bindings = select_kernel(pack, operator, sm, tensors, _tensor(trt, outputs[0]), attributes)
        return _launch(plugin, kernel, plugin_ptx(pack, kernel), inputs, bindings)

    arguments = dict.fromkeys(operator.inputs, plugin.TensorDesc)
    arguments |= {attribute.name: attribute.type for attribute in operator.attributes}
    _sign(describe, arguments, plugin.TensorDesc)
    result = GenericAlias(tuple, (str, str, plugin.KernelLaunchParams, plugin.SymIntExprs))
    _sign(implement, {**arguments, "outputs": GenericAlias(tuple, (plugin.TensorDesc,)), "tactic": int}, result)
    try:
        plugin.register(operator.identifier)(describe)
        plugin.aot_impl(operator.identifier)(implement)
    except ValueError as error:
        raise PackError(f"TensorRT did not take {operator.identifier}: {error}; register once a process") from error


def plugin_ptx(pack: KernelPack, kernel: PackedKernel) -> str:
    """The PTX of a kernel, compared with what the engine will pass.

    Raises PackError when the pack has none, when it has other parameters than pack.json says, scratch pointers among
    them, or when the kernel needs more shared memory than an engine gives.
    """
    if kernel.ptx is None:
        raise PackError(f"{kernel.name} has no PTX: it was compiled without plugin=True")
    text = pack.read(kernel.ptx).decode("utf-8", errors="replace")
    found = read_ptx(text)
    expected = ["pointer" if parameter.is_pointer else "i32" for parameter in kernel.parameters]
    if found.entry != kernel.entry or [parameter.kind for parameter in found.parameters] != expected:
        kinds = ", ".join(parameter.kind for parameter in found.parameters)
        raise PackError(
            f"the PTX of {kernel.name} is {found.entry}({kinds}), pack.json says "
            f"{kernel.entry}({', '.join(expected)}); make the pack again"
        )
    if kernel.shared_bytes > _SHARED_LIMIT:
        raise PackError(
            f"{kernel.name} needs {kernel.shared_bytes} bytes of shared memory, an engine gives {_SHARED_LIMIT}; make "
            "the pack again with smaller blocks"
        )
    return text


def _launch(
    plugin: Any, kernel: PackedKernel, ptx: str, inputs: Sequence[Any], bindings: Mapping[str, Binding]
) -> tuple[str, str, Any, Any]:
    sizes = {name: inputs[bound.input].shape_expr[bound.dimension] for name, bound in bindings.items()}
    numbers = [parameter.name for parameter in kernel.parameters if not parameter.is_pointer]
    extra = plugin.SymIntExprs(len(numbers))
    for i, name in enumerate(numbers):
        extra[i] = plugin.SymInt32(sizes[name])
    params = plugin.KernelLaunchParams()
    for axis, name in zip(kernel.grid, ("grid_x", "grid_y", "grid_z"), strict=False):
        setattr(params, name, _programs(plugin, kernel, axis, sizes))
    params.block_x = kernel.warps * _THREADS_PER_WARP
    params.shared_mem = kernel.shared_bytes
    return kernel.entry, ptx, params, extra


def _programs(plugin: Any, kernel: PackedKernel, axis: GridAxis, sizes: Mapping[str, Any]) -> Any:
    """`GridAxis.programs` for sizes that are expressions; constants of the kernel are whole numbers."""
    fixed = math.prod(_fixed(kernel, name) for name in axis.product if name not in sizes)
    expression = None
    for name in axis.product:
        if name in sizes:
            expression = sizes[name] if expression is None else expression * sizes[name]
    if expression is None:
        return -(-fixed // axis.divisor)
    if fixed != 1:
        expression = expression * fixed
    return expression if axis.divisor == 1 else plugin.cdiv(expression, axis.divisor)


def _fixed(kernel: PackedKernel, name: str) -> int:
    value = kernel.constants.get(name)
    if not isinstance(value, int):
        raise PackError(f"{kernel.name}: the grid needs {name}, which no input and no constant gives")
    return value


def _tensor(trt: Any, described: Any) -> Tensor:
    name = described.dtype.name
    sizes = tuple(size.constant_value() if size.is_constant else None for size in described.shape_expr)
    return Tensor(_TYPES.get(name, name.lower()), sizes)


def _sign(function: Callable[..., Any], parameters: Mapping[str, Any], result: Any) -> None:
    """TensorRT reads names and types of a plugin from the signature of its functions."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    listed = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in parameters.items()]
    setattr(function, "__signature__", inspect.Signature(listed, return_annotation=result))  # noqa: B010


def _tensorrt() -> tuple[Any, Any]:
    try:
        trt, plugin = importlib.import_module("tensorrt"), importlib.import_module("tensorrt.plugin")
    except (ImportError, OSError) as error:
        raise ImplementationError(f"plugins need TensorRT 10.9 or newer with its Python bindings: {error}") from error
    if not hasattr(plugin, "aot_impl"):
        raise ImplementationError(
            f"this TensorRT ({getattr(trt, '__version__', 'unknown')}) has no ahead-of-time plugins, 10.9 has; launch "
            "the kernels between engines instead: KernelPack.load"
        )
    return trt, plugin

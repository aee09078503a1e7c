"""Stand-ins for TensorRT, which cannot be installed where there is no GPU.

`native` is the part that is compiled in TensorRT: enumerations, base classes, and symbolic sizes that can be evaluated.
`plugin_module` is a small `tensorrt.plugin` on top of it with the names, arguments and checks of TensorRT 11.4.
"""

from __future__ import annotations

import enum
import inspect
import operator
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any


class DataType(enum.Enum):
    FLOAT, HALF, BF16, INT8, UINT8, BOOL, INT32, INT64, FP8 = range(9)


class DimensionOperation(enum.Enum):
    SUM, SUB, PROD, MAX, MIN, FLOOR_DIV, CEIL_DIV, EQUAL, LESS = range(9)


_COMPUTE = {
    DimensionOperation.SUM: operator.add,
    DimensionOperation.SUB: operator.sub,
    DimensionOperation.PROD: operator.mul,
    DimensionOperation.MAX: max,
    DimensionOperation.MIN: min,
    DimensionOperation.FLOOR_DIV: operator.floordiv,
    DimensionOperation.CEIL_DIV: lambda a, b: -(-a // b),
}


class IDimensionExpr:
    """A size: a number, a name, or an operation on two of them."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return isinstance(self.value, int) or (
            isinstance(self.value, tuple) and all(part.is_constant() for part in self.value[1:])
        )

    def get_constant_value(self) -> int:
        return self.at({})

    def at(self, sizes: Mapping[str, int]) -> int:
        """Its value where the named sizes are `sizes`."""
        if isinstance(self.value, int):
            return self.value
        if isinstance(self.value, str):
            return sizes[self.value]
        operation, first, second = self.value
        return int(_COMPUTE[operation](first.at(sizes), second.at(sizes)))


class IExprBuilder:
    def constant(self, value: int) -> IDimensionExpr:
        return IDimensionExpr(value)

    def operation(self, operation: DimensionOperation, first: IDimensionExpr, second: IDimensionExpr) -> IDimensionExpr:
        return IDimensionExpr((operation, first, second))


def native() -> ModuleType:
    """A module `tensorrt` with what `tensorrt.plugin` of TensorRT 11.4 takes from it."""
    module = ModuleType("tensorrt")
    empty = [
        "IPluginV3", "IPluginV3QuickCore", "IPluginV3QuickBuild", "IPluginV3QuickRuntime", "IPluginV3QuickAOTBuild",
        "IPluginCreatorV3Quick", "ISymExpr", "ITensor",
    ]  # fmt: skip
    for name in empty:
        setattr(module, name, type(name, (), {"__init__": lambda self: None}))
    registry = _Registry()
    fields = "INT8 INT16 INT32 INT64 FLOAT16 FLOAT32 FLOAT64 CHAR UNKNOWN BF16"
    members: dict[str, Any] = {
        "__version__": "11.4.0",
        "DataType": DataType,
        "DimensionOperation": DimensionOperation,
        "IDimensionExpr": IDimensionExpr,
        "TensorFormat": enum.Enum("TensorFormat", "LINEAR"),
        "PluginFieldType": enum.Enum("PluginFieldType", fields),
        "PluginArgType": enum.Enum("PluginArgType", "INT"),
        "PluginArgDataType": enum.Enum("PluginArgDataType", "INT8 INT16 INT32"),
        "TensorRTPhase": enum.Enum("TensorRTPhase", "BUILD RUNTIME"),
        "QuickPluginCreationRequest": enum.Enum(
            "QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT"
        ),
        "Logger": _Logger,
        "PluginField": _Field,
        "PluginFieldCollection": list,
        "PluginTensorDesc": _Record,
        "DynamicPluginTensorDesc": type("DynamicPluginTensorDesc", (_Record,), {}),
        "Dims": type("Dims", (list,), {"MAX_DIMS": 8}),
        "DimsExprs": lambda length: [None] * length,
        "get_plugin_registry": lambda: registry,
        "int32": DataType.INT32,
    }
    for name, value in members.items():
        setattr(module, name, value)
    return module


class _Registry:
    def __init__(self) -> None:
        self._creators: dict[tuple[str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> None:
        self._creators[creator.name, namespace] = creator

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self._creators[name, namespace]


class _Logger:
    WARNING = 2

    def log(self, severity: int, message: str) -> None:
        pass


class _Field:
    def __init__(self, name: str, data: Any, type: Any) -> None:
        self.name, self.data, self.type = name, data, type


class _Record:
    """Holds whatever is put into it."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class SymInt32:
    """A symbolic whole number."""

    def __init__(self, value: Any = None) -> None:
        self._expr = value._expr if isinstance(value, SymInt32) else IDimensionExpr(value)

    @property
    def is_constant(self) -> bool:
        return self._expr.is_constant()

    def constant_value(self) -> int:
        if not self.is_constant:
            raise RuntimeError("not a constant")
        return self._expr.get_constant_value()

    def _op(self, operation: DimensionOperation, other: Any) -> ShapeExpr:
        result = ShapeExpr(0)
        result._expr = IDimensionExpr((operation, self._expr, SymInt32(other)._expr))
        return result

    def __mul__(self, other: Any) -> ShapeExpr:
        return self._op(DimensionOperation.PROD, other)


class ShapeExpr(SymInt32):
    pass


class SymIntExprs:
    def __init__(self, length: int) -> None:
        self._exprs: list[Any] = [None] * length

    def __setitem__(self, index: int, value: Any) -> None:
        if not isinstance(value, SymInt32):
            raise ValueError(f"Value should be int or SymIntExpr. Got {type(value)}")
        self._exprs[index] = value

    def __iter__(self) -> Any:
        return iter(self._exprs)

    def __len__(self) -> int:
        return len(self._exprs)


class KernelLaunchParams:
    _NAMES = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")

    def __init__(self) -> None:
        for name in self._NAMES:
            setattr(self, name, 0 if name == "shared_mem" else 1)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._NAMES:
            raise AttributeError(name)
        self.__dict__[name] = SymInt32(value)


class TensorDesc:
    def __init__(self, shape_expr: Sequence[Any] = (), dtype: DataType = DataType.FLOAT) -> None:
        self.shape_expr = [ShapeExpr(size) for size in shape_expr]
        self.dtype = dtype


def plugin_module() -> ModuleType:
    """A module `tensorrt.plugin`; registered: identifier -> (register function, aot_impl function or None)."""
    module = ModuleType("tensorrt.plugin")
    registered: dict[str, list[Any]] = {}

    def register(identifier: str) -> Any:
        def decorate(function: Any) -> Any:
            if identifier in registered:
                raise ValueError(f"already has a defintion for '{identifier}'")
            names = list(inspect.signature(function).parameters.values())
            kinds = [parameter.annotation is TensorDesc for parameter in names]
            assert kinds == sorted(kinds, reverse=True), "tensors come first"
            assert all(p.annotation in (TensorDesc, int, float) for p in names)
            assert inspect.signature(function).return_annotation is TensorDesc
            registered[identifier] = [function, None]
            return function

        return decorate

    def aot_impl(identifier: str) -> Any:
        def decorate(function: Any) -> Any:
            expected = [*inspect.signature(registered[identifier][0]).parameters, "outputs", "tactic"]
            assert list(inspect.signature(function).parameters) == expected
            registered[identifier][1] = function
            return function

        return decorate

    def cdiv(first: Any, second: Any) -> ShapeExpr:
        if isinstance(first, int) and isinstance(second, int):
            raise ValueError("Both arguments cannot be 'int's")
        return SymInt32(first)._op(DimensionOperation.CEIL_DIV, second)

    def from_shape_expr(shape_expr: tuple[Any, ...], dtype: DataType) -> TensorDesc:
        assert isinstance(shape_expr, tuple)
        return TensorDesc(shape_expr, dtype)

    members = {
        "registered": registered, "register": register, "aot_impl": aot_impl, "cdiv": cdiv,
        "from_shape_expr": from_shape_expr, "TensorDesc": TensorDesc, "ShapeExpr": ShapeExpr, "SymInt32": SymInt32,
        "SymIntExprs": SymIntExprs, "KernelLaunchParams": KernelLaunchParams,
    }  # fmt: skip
    for name, value in members.items():
        setattr(module, name, value)
    return module

"""TensorRT's builder, played by stand-ins, and by TensorRT's own plugin package where its bindings are installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import tensorrt_stand_in as stand_in
from support.kernel_specs import compiled_weighted_sums

from mmedge_kernels.aot.targets import find_target
from mmedge_kernels.aot.write import write_pack
from mmedge_kernels.pack import KernelPack, open_pack

Sizes = Sequence[int | str]


class StandInBuilder:
    """Calls the registered functions as TensorRT does."""

    def __init__(self, plugin: ModuleType) -> None:
        self._plugin = plugin

    def registered(self) -> set[str]:
        return {name for name, (_, implementation) in self._plugin.registered.items() if implementation}

    def build(self, name: str, tensors: Sequence[tuple[str, Sizes]], attributes: Mapping[str, Any]) -> SimpleNamespace:
        """The node ``mmedge::name``; a size that is a string is known when the engine runs."""
        described, implementation = self._plugin.registered[f"mmedge::{name}"]
        inputs = [stand_in.TensorDesc(sizes, stand_in.DataType[kind]) for kind, sizes in tensors]
        output = described(*inputs, **attributes)
        entry, ptx, params, extra = implementation(*inputs, *attributes.values(), (output,), 0)
        return SimpleNamespace(
            entry=entry,
            ptx=ptx,
            out_type=output.dtype.name,
            out_shape=[size._expr for size in output.shape_expr],
            extra=[value._expr for value in extra],
            params={key: value._expr for key, value in vars(params).items()},
        )


class RealBuilder:
    """Drives TensorRT's own `tensorrt.plugin` through the steps of a build, without the compiled part of TensorRT."""

    def __init__(self, trt: Any, plugin: Any) -> None:
        self._trt, self._plugin = trt, plugin

    def registered(self) -> set[str]:
        registry = self._plugin._lib.QDP_REGISTRY
        return {name for name, described in registry.items() if described.aot_impl_func}

    def build(self, name: str, tensors: Sequence[tuple[str, Sizes]], attributes: Mapping[str, Any]) -> SimpleNamespace:
        import numpy as np

        trt = self._trt
        kinds = [trt.DataType[kind] for kind, _ in tensors]
        shapes = [[stand_in.IDimensionExpr(size) for size in sizes] for _, sizes in tensors]
        # As the ONNX parser passes attributes: arrays of one number, in single precision.
        fields = [
            trt.PluginField(key, np.array([value], np.float32 if isinstance(value, float) else np.int32), None)
            for key, value in attributes.items()
        ]
        creator = trt.get_plugin_registry().get_creator(name, "1", "mmedge")
        request = trt.QuickPluginCreationRequest.STRICT_AOT
        plugin = creator.create_plugin(name, "mmedge", fields, trt.TensorRTPhase.BUILD, request)
        (out_type,) = plugin.get_output_data_types(kinds, [len(shape) for shape in shapes])
        (out_shape,) = plugin.get_output_shapes(shapes, [], stand_in.IExprBuilder())
        ends = [self._end(kind, shape) for kind, shape in zip([*kinds, out_type], [*shapes, out_shape], strict=True)]
        plugin.get_supported_format_combinations(ends, len(shapes))
        plugin.configure_plugin(ends[:-1], ends[-1:])
        plugin.set_tactic(0)
        params, setter = SimpleNamespace(), _Setter()
        plugin.get_launch_params(shapes, ends, len(shapes), params, setter, stand_in.IExprBuilder())
        described = [end.desc for end in ends]
        entry, ptx = plugin.get_kernel(described[:-1], described[-1:])
        return SimpleNamespace(
            entry=entry,
            ptx=ptx.decode(),
            out_type=out_type.name,
            out_shape=out_shape,
            extra=[value.expr for value in setter.values],
            params={key: value.expr for key, value in vars(params).items()},
        )

    def _end(self, kind: Any, shape: Sequence[Any]) -> Any:
        dims = [size.value if isinstance(size.value, int) else -1 for size in shape]
        linear = self._trt.TensorFormat.LINEAR
        return self._trt.DynamicPluginTensorDesc(
            desc=self._trt.PluginTensorDesc(dims=dims, type=kind, format=linear, scale=1.0),
            min=dims,
            max=dims,
            opt=dims,
        )


class _Setter:
    """As the object into which TensorRT takes the extra arguments."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    @property
    def nbSymExprs(self) -> int:  # noqa: N802
        return len(self.values)

    @nbSymExprs.setter
    def nbSymExprs(self, count: int) -> None:  # noqa: N802
        self.values = [None] * count

    def __setitem__(self, index: int, value: Any) -> None:
        self.values[index] = value


def _bindings() -> list[str]:
    """The folders of TensorRT's Python bindings, which can be installed without TensorRT; [] where they are not."""
    found = importlib.util.find_spec("tensorrt_bindings")
    return [] if found is None else list(found.submodule_search_locations or [])


@pytest.fixture(params=["stand-in", *(["real"] if _bindings() else [])])
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInBuilder | RealBuilder]:
    """What asks the plugins for kernels. real: where ``pip install --no-deps tensorrt-cu13-bindings`` was run."""
    trt = stand_in.native()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    if request.param == "stand-in":
        plugin = stand_in.plugin_module()
        monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugin)
        yield StandInBuilder(plugin)
        return
    trt.__path__ = _bindings()
    yield RealBuilder(trt, importlib.import_module("tensorrt.plugin"))
    for name in [name for name in sys.modules if name.startswith("tensorrt.plugin")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> KernelPack:
    """Kernels of the operator cross_attention: fp16 and fp32, 64 and 32 wide, two scales; one for sm_80 too."""
    out = tmp_path_factory.mktemp("packs") / "pack"
    write_pack(out, compiled_weighted_sums(), [find_target("sm_80"), find_target("sm_87")])
    return open_pack(out)


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType | None], None]:
    """Puts what is given in the place of `tensorrt.plugin`; None: TensorRT is not installed."""

    def replace(plugin: ModuleType | None) -> None:
        trt = stand_in.native()
        trt.__version__ = "10.3.0"
        monkeypatch.setitem(sys.modules, "tensorrt", None if plugin is None else trt)
        monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugin)

    return replace

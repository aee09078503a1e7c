"""The one optimisation profile of an engine, from the ranges of the named axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmedge.bundle import Stage
from mmedge.engines import AxisRange
from mmedge.errors import EngineError

_Bounds = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def add_profile(builder: Any, config: Any, network: Any, stage: Stage, ranges: Mapping[str, AxisRange]) -> None:
    """Give `config` a profile for the inputs of `network` whose sizes, or values where they are sizes, may change.

    Args:
        stage: The contract, which names the axes.
        ranges: By axis name.

    Raises:
        EngineError: An input of the network is not in the contract, or an axis has no range.
    """
    contract = {tensor.name: tensor.shape for tensor in stage.inputs}
    profile = builder.create_optimization_profile()
    needed = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.name not in contract:
            raise EngineError(
                f"stage {stage.name!r}: the graph takes {tensor.name!r}, which the manifest does not promise; export "
                "the bundle again"
            )
        sizes = tuple(tensor.shape)
        if tensor.is_shape_tensor:
            profile.set_shape_input(tensor.name, *_values(sizes, ranges, stage.name, tensor.name))
        elif -1 in sizes:
            profile.set_shape(tensor.name, *_shapes(sizes, contract[tensor.name], ranges, stage.name, tensor.name))
        else:
            continue
        needed = True
    if needed and config.add_optimization_profile(profile) < 0:
        raise EngineError(
            f"stage {stage.name!r}: the library refused the ranges {dict(ranges)}: each needs least <= usual <= most"
        )


def _shapes(
    sizes: tuple[int, ...],
    names: tuple[int | str, ...],
    ranges: Mapping[str, AxisRange],
    stage: str,
    tensor: str,
) -> _Bounds:
    if len(names) != len(sizes):
        raise EngineError(f"stage {stage!r}: {tensor!r} has {len(sizes)} axes and {len(names)} in the manifest")
    axes = []
    for size, name in zip(sizes, names, strict=True):
        if size >= 0:
            axes.append((size, size, size))
        elif isinstance(name, int):
            axes.append((name, name, name))
        elif name in ranges:
            axes.append((ranges[name].least, ranges[name].usual, ranges[name].most))
        else:
            raise EngineError(
                f"stage {stage!r}: axis {name!r} of {tensor!r} has no range, and an engine is built for one; known "
                f"are {', '.join(ranges) or 'none'}"
            )
    least, usual, most = zip(*axes, strict=True)
    return least, usual, most


def _values(sizes: tuple[int, ...], ranges: Mapping[str, AxisRange], stage: str, tensor: str) -> _Bounds:
    """An input whose values are sizes, of which the graph does not say whose: anything that an axis may be."""
    known = [ranges[tensor]] if tensor in ranges else list(ranges.values())
    if not known or any(size < 0 for size in sizes):
        raise EngineError(
            f"stage {stage!r}: the values of {tensor!r} set shapes, and they have no range; give the axes ranges, or "
            "export the model so that the sizes come from shapes"
        )
    count = sizes[0] if sizes else 1
    least, most = min(axis.least for axis in known), max(axis.most for axis in known)
    return (least,) * count, (known[0].usual,) * count, (most,) * count

"""Rules of the operators that only move elements: where a repeat is after a reshape, a transpose, a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from mmedge_export.graph.sinking.extents import ONE, Size, attribute_int, input_at, product
from mmedge_export.graph.sinking.site import Crossing, Entry, Override, Piece, Site, Stays
from mmedge_export.graph.sinking.tiling import Tiling, full_shape, regrouped

_FAR = 2**31 - 1


def reshape(site: Site) -> Crossing:
    tiling, base = site.only(0), site.shape(0)
    target = _target(site, full_shape(base, tiling))
    found = regrouped(base, tiling, target)
    if found is None:
        raise Stays("mixes the repeated axis with others")
    return Crossing(found, {1: _base_target(base, target, found)}, {"allowzero": 0})


def _target(site: Site, full: Sequence[Size]) -> list[Size]:
    """The axes that the reshape gives, with 0 and -1 resolved."""
    wanted = input_at(site.node, 1)
    entries = site.extents.vector(wanted) if wanted is not None else None
    inferred = site.extents.shape(site.node.outputs[0])
    named = {symbol for size in full for symbol in size.symbols}
    if entries is None or any(entry.opaque and not named.issuperset(entry.symbols) for entry in entries):
        if inferred is None or any(size.symbols for size in inferred):
            raise Stays("its target shape is only known at run time")
        entries = inferred
    if any(entry == Size(0) for entry in entries) and attribute_int(site.node, "allowzero", 0):
        raise Stays("its result has no elements")
    copied = [full[axis] if entry == Size(0) else entry for axis, entry in enumerate(entries)]
    if Size(-1) not in copied:
        return copied
    rest = product(full).divided(product(size for size in copied if size != Size(-1)))
    if rest is None:
        raise Stays("the axis marked -1 cannot be told")
    return [rest if size == Size(-1) else size for size in copied]


def _base_target(base: Sequence[Size], target: Sequence[Size], tiling: Tiling) -> list[Entry]:
    """The same reshape for the base: numbers, axes copied by 0, and at most one -1."""
    entries: list[Entry] = []
    for axis, size in enumerate(target):
        if axis == tiling.axis:
            entries.append(tiling.base_size)
        elif size.number is not None:
            entries.append(size.number)
        elif axis < len(base) and base[axis] == size:
            entries.append(0)
        elif -1 not in entries:
            entries.append(-1)
        else:
            raise Stays("several axes of its target shape are only known at run time")
    return entries


def flatten(site: Site) -> Crossing:
    tiling, base = site.only(0), site.shape(0)
    at = site.axis(1, len(base))
    full = full_shape(base, tiling)
    found = regrouped(base, tiling, [product(full[:at]), product(full[at:])])
    if found is None:
        raise Stays("mixes the repeated axis with others")
    return Crossing(found)


def transpose(site: Site) -> Crossing:
    tiling, rank = site.only(0), site.rank(0)
    order = list(site.node.attributes["perm"].as_ints()) if "perm" in site.node.attributes else list(range(rank))[::-1]
    return Crossing(tiling.along(order.index(tiling.axis)))


def squeeze(site: Site) -> Crossing:
    tiling, base = site.only(0), site.shape(0)
    axes = site.numbers(1)
    if axes is None:
        if any(size.symbols for size in full_shape(base, tiling)):
            raise Stays("which axes it drops is only known at run time")
        axes = [axis for axis, size in enumerate(base) if size == ONE and axis != tiling.axis]
    axes = [axis % len(base) for axis in axes]
    if tiling.axis in axes or tiling.size == ONE:
        raise Stays("drops the repeated axis")
    return Crossing(tiling.along(tiling.axis - sum(axis < tiling.axis for axis in axes)), {1: axes})


def unsqueeze(site: Site) -> Crossing:
    tiling, axes = site.only(0), site.numbers(1) or []
    rank = site.rank(0) + len(axes)
    new = {axis % rank for axis in axes}
    return Crossing(tiling.along([axis for axis in range(rank) if axis not in new][tiling.axis]))


def cut(site: Site) -> Crossing:
    """Slice: along other axes, or all of the repeated one."""
    tiling, rank = site.only(0), site.rank(0)
    starts = input_at(site.node, 1)
    count = site.extents.vector(starts) if starts is not None else None
    axes = site.numbers(3)
    if axes is None:
        axes = list(range(len(count if count is not None else site.shape(0))))
    for position, axis in enumerate(axes):
        if axis % rank == tiling.axis and not _whole(site, position):
            raise Stays("cuts the repeated axis")
    return Crossing(tiling)


def _whole(site: Site, position: int) -> bool:
    steps = site.numbers(4)
    starts, ends = site.numbers(1) or [], site.numbers(2) or []
    return starts[position] == 0 and ends[position] >= _FAR and (steps is None or steps[position] == 1)


def split(site: Site) -> Crossing:
    tiling = site.only(0)
    if tiling.axis == site.axis(0, site.rank(0)):
        raise Stays("cuts the repeated axis")
    return Crossing(tiling)


def concat(site: Site) -> Crossing:
    """All inputs repeated alike; a constant with equal rows counts as such."""
    tiling = site.tiling(site.repeated[0])
    if tiling.axis == site.axis(0, site.rank(site.repeated[0])):
        raise Stays("joins along the repeated axis")
    rows: dict[int, Override] = {}
    for index in site.present:
        if site.tilings[index] == tiling:
            continue
        row = site.row(index, tiling.axis, tiling) if site.tilings[index] is None else None
        if row is None:
            raise Stays(f"joins {site.label(index)}, which is not repeated alike")
        rows[index] = row
    return Crossing(tiling, rows)


def gather(site: Site) -> Crossing:
    """Rows of a repeated tensor along another axis, or any rows by repeated indices."""
    axis = site.axis(0, site.rank(0))
    if site.repeated == [1]:
        return Crossing(site.tiling(1).along(axis + site.tiling(1).axis))
    tiling = site.only(0)
    if tiling.axis == axis:
        raise Stays("picks from the repeated axis")
    return Crossing(tiling.along(tiling.axis + (site.rank(1) - 1 if tiling.axis > axis else 0)))


def gather_elements(site: Site) -> Crossing:
    tiling = site.only(0, 1)
    if site.tiling(1) != tiling or tiling.axis == site.axis(0, site.rank(0)):
        raise Stays("data and indices are repeated in different ways, or along the axis that is picked from")
    return Crossing(tiling)


def gather_nd(site: Site) -> Crossing:
    """By repeated indices [..., k] from data that all rows share."""
    tiling = site.only(1)
    if attribute_int(site.node, "batch_dims", 0) or tiling.axis == site.rank(1) - 1:
        raise Stays("picks from rows of its own")
    return Crossing(tiling)


def pad(site: Site) -> Crossing:
    tiling, rank = site.only(0), site.rank(0)
    axes = site.numbers(3)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    if tiling.axis not in axes:
        return Crossing(tiling)
    amounts = input_at(site.node, 1)
    known = site.extents.vector(amounts) if amounts is not None else None
    place = axes.index(tiling.axis)
    if known is None or known[place] != Size(0) or known[place + len(axes)] != Size(0):
        raise Stays("pads the repeated axis")
    return Crossing(tiling)


def resize(site: Site) -> Crossing:
    tiling, rank, attributes = site.only(0), site.rank(0), site.node.attributes
    axes = [axis % rank for axis in attributes["axes"].as_ints()] if "axes" in attributes else list(range(rank))
    if _text(attributes, "coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Stays("crops by a region of interest")
    if tiling.axis not in axes:
        return Crossing(tiling)
    place = axes.index(tiling.axis)
    sizes = input_at(site.node, 3)
    if sizes is not None:
        known = site.extents.vector(sizes)
        stretched = _text(attributes, "keep_aspect_ratio_policy") in (None, "stretch")
        if known is None or known[place] != tiling.size or not stretched:
            raise Stays("resizes the repeated axis")
        return Crossing(tiling, {3: _entries(sizes, known, {place: tiling.base_size})})
    scales = input_at(site.node, 2)
    constant = ir.convenience.get_const_tensor(scales) if scales is not None else None
    if constant is None or float(constant.numpy()[place]) != 1.0:
        raise Stays("resizes the repeated axis")
    return Crossing(tiling)


def _text(attributes: Mapping[str, ir.Attr], name: str) -> str | None:
    return attributes[name].as_string() if name in attributes else None


def _entries(vector: ir.Value, known: Sequence[Size], other: Mapping[int, int]) -> list[Entry]:
    """`vector` with some entries replaced; what is not known of it is read from it at run time."""
    return [
        other[index] if index in other else size.number if size.number is not None else Piece(vector, index)
        for index, size in enumerate(known)
    ]


def expand(site: Site) -> Crossing:
    """Spread out along other axes."""
    tiling, rank = site.only(0), site.rank(0)
    target = input_at(site.node, 1)
    known = site.extents.vector(target) if target is not None else None
    if target is None or known is None:
        raise Stays("its target shape is only known at run time")
    more = len(known) - rank
    axis = tiling.axis + max(more, 0)
    place = tiling.axis + more
    if place >= 0 and known[place] not in (ONE, tiling.size):
        raise Stays("spreads the repeated axis further")
    entries = _entries(target, known, {place: 1} if place >= 0 else {})
    return Crossing(tiling.along(axis), {1: entries})


def tile(site: Site) -> Crossing:
    tiling, repeats = site.only(0), input_at(site.node, 1)
    known = site.extents.vector(repeats) if repeats is not None else None
    if known is None or known[tiling.axis] != ONE:
        raise Stays("repeats the repeated axis again")
    return Crossing(tiling)


def triangle(site: Site) -> Crossing:
    tiling = site.only(0)
    if tiling.axis >= site.rank(0) - 2:
        raise Stays("cuts a triangle out of the repeated axis")
    return Crossing(tiling)


def one_hot(site: Site) -> Crossing:
    tiling = site.only(0)
    axis = site.axis(-1, site.rank(0) + 1)
    return Crossing(tiling.along(tiling.axis + (axis <= tiling.axis)))


ARRANGEMENT: dict[str, Callable[[Site], Crossing]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Slice": cut,
    "Split": split,
    "Concat": concat,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Pad": pad,
    "Resize": resize,
    "Expand": expand,
    "Tile": tile,
    "Trilu": triangle,
    "OneHot": one_hot,
}

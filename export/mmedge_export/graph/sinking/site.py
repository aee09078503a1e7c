"""One node with repeated inputs, as the operator rules see it, and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmedge_export.graph.sinking.extents import Extents, Size, attribute_int, input_at
from mmedge_export.graph.sinking.tiling import Tiling, one_row


class Stays(Exception):  # noqa: N818 - the answer of a rule, not a failure
    """The node does not commute with the repeat; the message says why."""


@dataclass(frozen=True)
class Piece:
    """One element of a vector that is only known at run time."""

    vector: ir.Value
    index: int


Entry = int | Piece
Override = Sequence[Entry] | npt.NDArray[np.generic]


@dataclass(frozen=True)
class Crossing:
    """The node commutes: applied to the bases it gives the bases of its outputs.

    Attributes:
        tiling: How its outputs are repeated.
        inputs: Inputs that must be other ones for the bases: the entries of an int64 vector, or a constant.
        attributes: Attributes that must be other ones.
        keeps_shape: The outputs have the shape of the first input, which ONNX does not infer for every operator.
    """

    tiling: Tiling
    inputs: Mapping[int, Override] = field(default_factory=dict)
    attributes: Mapping[str, int] = field(default_factory=dict)
    keeps_shape: bool = False


@dataclass(frozen=True)
class Site:
    """A node some of whose inputs are repeated.

    Attributes:
        node: The node.
        bases: Its inputs, with the base in place of each repeated one.
        tilings: For each input, how it is repeated; None where it is not.
        extents: Sizes known in the graph.
    """

    node: ir.Node
    bases: Sequence[ir.Value | None]
    tilings: Sequence[Tiling | None]
    extents: Extents

    @property
    def repeated(self) -> list[int]:
        return [index for index, tiling in enumerate(self.tilings) if tiling is not None]

    @property
    def present(self) -> list[int]:
        return [index for index, value in enumerate(self.bases) if value is not None]

    def tiling(self, index: int) -> Tiling:
        found = self.tilings[index] if index < len(self.tilings) else None
        if found is None:
            raise Stays(f"input {index} ({self.label(index)}) is not repeated with the others")
        return found

    def only(self, *indices: int) -> Tiling:
        """The tiling of the first of `indices`; no other input may be repeated."""
        if extra := set(self.repeated) - set(indices):
            raise Stays(f"repeated input {min(extra)} is a parameter here")
        return self.tiling(indices[0])

    def shape(self, index: int) -> list[Size]:
        """The axes of an input; of a repeated one, those of its base."""
        value = self.bases[index] if index < len(self.bases) else None
        found = self.extents.shape(value) if value is not None else None
        if found is None:
            raise Stays(f"the rank of input {index} ({self.label(index)}) is unknown")
        return found

    def rank(self, index: int) -> int:
        return len(self.shape(index))

    def axis(self, default: int, rank: int) -> int:
        """The attribute ``axis``, counted from the front."""
        axis = attribute_int(self.node, "axis", default)
        return axis + rank if axis < 0 else axis

    def numbers(self, index: int) -> list[int] | None:
        """The content of an integer parameter; None where the input is left out.

        Raises:
            Stays: It is there and not known.
        """
        value = input_at(self.node, index)
        if value is None:
            return None
        found = self.extents.numbers(value)
        if found is None:
            raise Stays(f"{value.name} is only known at run time")
        return found

    def row(self, index: int, axis: int, tiling: Tiling) -> npt.NDArray[np.generic] | None:
        """A constant input whose rows are equal, as one row."""
        value = self.bases[index]
        size = self.shape(index)[axis].number
        if value is None or size is None or size != tiling.size.number:
            return None
        constant = ir.convenience.get_const_tensor(value)
        return one_row(constant.numpy(), axis, tiling) if constant is not None else None

    def label(self, index: int) -> str:
        value = input_at(self.node, index)
        return str(value.name) if value is not None else "left out"

"""Launches the kernel of `prompt_attention` on torch tensors; arguments are checked by the caller."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mmedge_kernels.errors import TensorError
from mmedge_kernels.prompt_attention.tiles import Tiles, choose_tiles
from mmedge_kernels.prompt_attention.triton import prompt_attention_strided
from mmedge_kernels.tensors import on_device

_MOST_BATCHES = 65_535  # of a grid's third axis


def prompt_attention(
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None,
    residual: Tensor | None,
    norm_eps: float | None,
    tiles: Tiles | None = None,
) -> Tensor:
    """As the reference; any strides. tiles: other block sizes than the chosen ones, for benchmarks."""
    frames, rows, depth = x.shape[0], x.shape[-2], x.shape[-1]
    per_prompt = a_matrix.ndim == 3
    prompts = a_matrix.shape[0] if per_prompt else 1
    keys, width = a_matrix.shape[-1] // heads, b_matrix.shape[-1]
    if frames * prompts > _MOST_BATCHES:
        raise TensorError(f"frames times prompts must be at most {_MOST_BATCHES}, got {frames} times {prompts}")
    shape = (frames, prompts, rows, width) if per_prompt else (frames, rows, width)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    if tiles is None:
        matrix_units, processors = _device_facts(x.device, x.dtype)
        tiles = choose_tiles(
            width=width, heads=heads, keys=keys, matrix_units=matrix_units, rows=frames * prompts * rows,
            processors=processors,
        )  # fmt: skip
    a_bias, c_bias = a_bias.contiguous(), c_bias.contiguous()
    grid = (-(-rows // tiles.block_m), -(-width // tiles.part_e), frames * prompts)
    with on_device(x.device):
        prompt_attention_strided[grid](
            x, a_matrix, a_bias, b_matrix, c_bias, None if mask is None else mask.contiguous(), residual, out,
            *_row_strides(x),
            *_prompt_strides(a_matrix),
            a_bias.stride(0) if per_prompt else 0,
            *_prompt_strides(b_matrix),
            0 if mask is None or mask.ndim == 1 else keys,
            *((0, 0, 0, 0) if residual is None else _row_strides(residual)),
            rows * width, width, rows, prompts, keys,
            D=depth, E=width, HEADS=heads, norm_eps=norm_eps, PRECISION="ieee",
            num_warps=tiles.warps, num_stages=tiles.stages, **tiles.constants(),
        )  # fmt: skip
    return out


def _row_strides(tensor: Tensor) -> tuple[int, ...]:
    """Strides over frames, prompts, rows and columns of [B, M, .] or [B, N, M, .]."""
    strides = tensor.stride()
    return strides if tensor.ndim == 4 else (strides[0], 0, *strides[1:])


def _prompt_strides(matrix: Tensor) -> tuple[int, ...]:
    """Strides over prompts, rows and columns of a matrix [., .] or [N, ., .]."""
    return matrix.stride() if matrix.ndim == 3 else (0, *matrix.stride())


@functools.cache
def _device_facts(device: torch.device, dtype: torch.dtype) -> tuple[bool, int | None]:
    """Whether products of `dtype` run on matrix units, and the number of multiprocessors."""
    half = dtype in (torch.float16, torch.bfloat16)
    if device.type != "cuda":
        return half, None
    properties = torch.cuda.get_device_properties(device)
    return half and properties.major >= 8, properties.multi_processor_count

"""Prompts -> token tensors, by the bundle's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import TextInput
from mmedge.errors import BundleFormatError, TextInputError
from mmedge.inputs import numpy_dtype

BUCKETS = (8, 16, 32, 80)
"""Prompt lengths, in tokens, of engines that build a program for each shape; beyond them, the longest that there is."""

_SHOWN = 60


@dataclass(frozen=True)
class EncodedText:
    """Prompts as tensors.

    Attributes:
        tensors: Token ids [n, l], and the mask [n, l] where the model takes one, by name.
        warnings: One for each prompt that was cut.
    """

    tensors: Mapping[str, npt.NDArray[Any]]
    warnings: tuple[str, ...]


class TextPreprocessor:
    """Turns lists of prompts into token tensors. Any thread may use it.

    Args:
        modality: Its name in the manifest.
        contract: What the manifest says of it.
        tokenizer: The content of the bundle's ``tokenizer.json``.
        static_shapes: Pad to the smallest of `BUCKETS` that holds the longest prompt, for engines that build a program
            for each shape; otherwise to the longest prompt.

    Attributes:
        modality, contract: As given.

    Raises:
        BundleFormatError: `tokenizer` does not parse, or it is not the tokenizer of this model.
    """

    def __init__(self, modality: str, contract: TextInput, tokenizer: bytes, *, static_shapes: bool = False) -> None:
        from tokenizers import Tokenizer

        self.modality = modality
        self.contract = contract
        self._buckets = BUCKETS if static_shapes else ()
        self._ids_dtype = numpy_dtype(contract.ids)
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleFormatError(f"tokenizer.json does not parse: {error}; export the bundle again") from error
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if max(size, contract.pad_id + 1) > contract.vocab_size:
            raise BundleFormatError(
                f"wrong tokenizer: it knows {size} tokens and pads with {contract.pad_id}, the model knows "
                f"{contract.vocab_size}; export the bundle again with the tokenizer that belongs to the model"
            )
        self._count, self._length = _fixed_axes(contract)
        self._limit = contract.max_length if self._length is None else min(contract.max_length, self._length)
        if "{}" not in contract.template:
            raise BundleFormatError(
                f"manifest: template must hold {{}} where the prompt goes, got {contract.template!r:.80}"
            )
        if self._tokenizer.num_special_tokens_to_add(False) >= self._limit:
            raise BundleFormatError(
                f"manifest: max_length {self._limit} leaves no place for the prompt beside special tokens"
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=self._limit)

    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """The tensors of a list of prompts, padded to the longest of them, its bucket, or the model's fixed length.

        Raises:
            TextInputError: `prompts` is no list of words, or not of the length that the model takes.
        """
        prompts = check_prompts(prompts, self._count)
        texts = [self.contract.template.replace("{}", prompt) for prompt in prompts]
        try:
            encodings = self._tokenizer.encode_batch(texts)
        except Exception as error:  # tokenizers raises plain Exception
            raise TextInputError(f"the prompts cannot be tokenized: {error}") from error
        rows = [encoding.ids for encoding in encodings]
        self._check_ids(rows)
        length = self._padded(max(len(row) for row in rows))
        ids = np.full((len(rows), length), self.contract.pad_id, self._ids_dtype)
        mask = np.zeros((len(rows), length), np.bool_)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = True
        tensors: dict[str, npt.NDArray[Any]] = {self.contract.ids.name: ids}
        if self.contract.mask is not None:
            tensors[self.contract.mask.name] = mask.astype(numpy_dtype(self.contract.mask))
        return EncodedText(tensors, self._cuts(prompts, encodings))

    def _padded(self, longest: int) -> int:
        if self._length is not None:
            return self._length
        if not self._buckets:
            return longest
        return min((size for size in self._buckets if longest <= size <= self._limit), default=self._limit)

    def _check_ids(self, rows: Sequence[Sequence[int]]) -> None:
        for index, row in enumerate(rows):
            if not row:
                raise TextInputError(f"prompt {index} has no tokens; use words that the model's tokenizer knows")
            if max(row) >= self.contract.vocab_size:
                raise TextInputError(
                    f"prompt {index} has token {max(row)}, and the model knows {self.contract.vocab_size} tokens: the "
                    "bundle has the wrong tokenizer; export it again"
                )

    def _cuts(self, prompts: Sequence[str], encodings: Sequence[Any]) -> tuple[str, ...]:
        warnings = []
        for index, (prompt, encoding) in enumerate(zip(prompts, encodings, strict=True)):
            if encoding.overflowing:
                own = sum(e.special_tokens_mask.count(0) for e in (encoding, *encoding.overflowing))
                total = own + encoding.special_tokens_mask.count(1)
                shown = prompt if len(prompt) <= _SHOWN else prompt[: _SHOWN - 3] + "..."
                warnings.append(f"prompt {index} was cut from {total} to {self._limit} tokens: {shown!r}")
        return tuple(warnings)


def check_prompts(prompts: object, count: int | None = None) -> tuple[str, ...]:
    """The prompts as they are now, whatever becomes of the caller's list; what is no list of words is refused.

    Args:
        count: Number of prompts that the model takes, None for any.

    Raises:
        TextInputError: See above.
    """
    if isinstance(prompts, str):
        raise TextInputError(f"prompts must be a list, got one string; use [{prompts[:_SHOWN]!r}]")
    if not isinstance(prompts, (list, tuple)):
        raise TextInputError(f"prompts must be a list of strings, got {type(prompts).__name__}")
    taken = tuple(prompts)
    if not taken:
        raise TextInputError("prompts must hold at least one string, got an empty list")
    for index, prompt in enumerate(taken):
        if not isinstance(prompt, str):
            raise TextInputError(f"prompt {index} must be a string, got {type(prompt).__name__}: {prompt!r:.60}")
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise TextInputError(f"prompt {index} is no valid Unicode, it holds half a surrogate pair: {prompt!r:.60}")
        if not prompt.strip():
            raise TextInputError(f"prompt {index} is empty; remove it or describe something")
    if count is not None and len(taken) != count:
        raise TextInputError(f"the model was exported for exactly {count} prompts, got {len(taken)}")
    return taken


def _fixed_axes(contract: TextInput) -> tuple[int | None, int | None]:
    shape = contract.ids.shape
    if len(shape) != 2 or (contract.mask is not None and contract.mask.shape != shape):
        mask = None if contract.mask is None else contract.mask.shape
        raise BundleFormatError(f"manifest: token ids and mask must be [n, l] both, got {shape} and {mask}")
    count, length = (axis if isinstance(axis, int) else None for axis in shape)
    return count, length

"""Prompts: tokens, padding, cuts with a warning, and what is refused."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.bundles import TEXT_INPUT, WORDS, word_tokenizer

from mmedge.bundle import TensorSpec
from mmedge.errors import BundleFormatError, TextInputError
from mmedge.inputs.text import TextPreprocessor


def preprocessor(tokenizer: bytes | None = None, **changes: Any) -> TextPreprocessor:
    return TextPreprocessor("text", replace(TEXT_INPUT, **changes), tokenizer or word_tokenizer())


def ids(text: TextPreprocessor, *prompts: str) -> list[list[int]]:
    rows: list[list[int]] = text.encode(prompts).tensors["input_ids"].tolist()
    return rows


def test_prompts_are_padded_to_the_longest() -> None:
    encoded = preprocessor().encode(["red", "a green thing"])
    assert encoded.tensors["input_ids"].tolist() == [[3, 2, 0, 0], [6, 4, 7, 2]]
    assert encoded.tensors["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert {array.dtype for array in encoded.tensors.values()} == {np.dtype(np.int64)}
    assert encoded.warnings == ()


def test_dtypes_and_a_missing_mask_follow_the_contract() -> None:
    spec = TensorSpec("ids", "int32", ("n", "l"))
    encoded = preprocessor(ids=spec, mask=None).encode(["red"])
    assert list(encoded.tensors) == ["ids"]
    assert encoded.tensors["ids"].dtype == np.int32
    mask = TensorSpec("m", "float32", ("n", "l"))
    assert preprocessor(mask=mask).encode(["red"]).tensors["m"].dtype == np.float32


def test_a_fixed_length_is_filled_up() -> None:
    spec = TensorSpec("input_ids", "int64", ("n", 5))
    text = preprocessor(ids=spec, mask=None, pad_id=7, max_length=77)
    assert ids(text, "red") == [[3, 2, 7, 7, 7]]
    assert ids(text, "red " * 9) == [[3, 3, 3, 3, 2]]


@pytest.mark.parametrize(
    ("longest", "limit", "length"),
    [
        (2, 90, 8),
        (8, 90, 8),
        (9, 90, 16),
        (17, 90, 32),
        (33, 90, 80),
        (80, 90, 80),
        (81, 90, 90),
        (33, 77, 77),
        (2, 6, 6),
    ],
)
def test_static_shapes_take_the_smallest_bucket_that_holds_the_longest_prompt(
    longest: int, limit: int, length: int
) -> None:
    contract = replace(TEXT_INPUT, max_length=limit, pad_id=7)
    text = TextPreprocessor("text", contract, word_tokenizer(), static_shapes=True)
    encoded = text.encode(["red", "blue " * (longest - 1)])
    assert encoded.tensors["input_ids"].tolist() == [
        [3, 2] + [7] * (length - 2),
        [5] * (longest - 1) + [2] + [7] * (length - longest),
    ]
    assert encoded.tensors["attention_mask"].sum(axis=1).tolist() == [2, longest]
    assert encoded.warnings == ()


def test_static_shapes_leave_a_fixed_length_as_it_is() -> None:
    contract = replace(TEXT_INPUT, ids=TensorSpec("input_ids", "int64", ("n", 5)), mask=None)
    text = TextPreprocessor("text", contract, word_tokenizer(), static_shapes=True)
    assert ids(text, "red") == [[3, 2, 0, 0, 0]]


def test_long_prompts_are_cut_before_the_end_token_and_reported() -> None:
    encoded = preprocessor().encode(["red", "blue " * 96, "a b c d e f g"])
    assert encoded.tensors["input_ids"].tolist()[1] == [5, 5, 5, 5, 5, 2]
    assert len(encoded.warnings) == 2
    assert encoded.warnings[0].startswith("prompt 1 was cut from 97 to 6 tokens: 'blue blue")
    assert len(encoded.warnings[0]) < 120
    assert encoded.warnings[1] == "prompt 2 was cut from 8 to 6 tokens: 'a b c d e f g'"


def test_a_prompt_of_exactly_the_longest_length_is_not_cut() -> None:
    assert preprocessor().encode(["a a a a a"]).warnings == ()


def test_a_tokenizer_without_special_tokens() -> None:
    text = preprocessor(word_tokenizer(end=None), max_length=2)
    assert ids(text, "red green blue", "a") == [[3, 4], [6, 0]]
    assert text.encode(["red green blue"]).warnings == ("prompt 0 was cut from 3 to 2 tokens: 'red green blue'",)


def test_the_template_stands_around_each_prompt() -> None:
    assert ids(preprocessor(template="a {} thing"), "red", "blue") == [[6, 3, 7, 2], [6, 5, 7, 2]]


@pytest.mark.parametrize("prompt", ["{}", "{0}", "{x.__class__}", "%s", "\\1"])
def test_a_prompt_is_never_read_as_a_template(prompt: str) -> None:
    assert ids(preprocessor(template="a {}"), prompt) == [[6, 1, 2]]


def test_settings_inside_the_tokenizer_do_not_count() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(word_tokenizer().decode())
    tokenizer.enable_truncation(1)
    tokenizer.enable_padding(length=50)
    assert ids(preprocessor(tokenizer.to_str().encode()), "red green") == [[3, 4, 2]]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        pytest.param("red", r"use \['red'\]", id="bare-string"),
        pytest.param(None, "got NoneType", id="none"),
        pytest.param({"red"}, "got set", id="set"),
        pytest.param([], "empty list", id="empty-list"),
        pytest.param(["red", 3], "prompt 1 must be a string, got int", id="number"),
        pytest.param(["red", b"blue"], "prompt 1 must be a string, got bytes", id="bytes"),
        pytest.param([""], "prompt 0 is empty", id="empty-prompt"),
        pytest.param(["red", " \t\n\u3000"], "prompt 1 is empty", id="blank-prompt"),
        pytest.param(["\ud83d"], "half a surrogate pair", id="surrogate"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(prompts: Any, message: str) -> None:
    with pytest.raises(TextInputError, match=message):
        preprocessor().encode(prompts)


@pytest.mark.parametrize("count", [1, 3])
def test_a_fixed_number_of_prompts_is_kept(count: int) -> None:
    text = preprocessor(ids=TensorSpec("input_ids", "int64", (2, "l")), mask=None)
    assert len(ids(text, "red", "blue")) == 2
    with pytest.raises(TextInputError, match=f"exactly 2 prompts, got {count}"):
        text.encode(["red"] * count)


def test_a_token_that_the_model_does_not_know() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    # Few words with large numbers: the size of the vocabulary alone does not tell.
    sparse = Tokenizer(WordLevel({"[UNK]": 0, "red": 5000}, unk_token="[UNK]"))
    text = preprocessor(sparse.to_str().encode(), max_length=6)
    assert ids(text, "blue") == [[0]]
    with pytest.raises(TextInputError, match=r"token 5000.*wrong tokenizer"):
        text.encode(["blue", "red"])


def test_a_prompt_without_tokens() -> None:
    from tokenizers import Tokenizer, models, normalizers

    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace("?", "")
    with pytest.raises(TextInputError, match="prompt 1 has no tokens"):
        preprocessor(tokenizer.to_str().encode()).encode(["a", "???"])


@pytest.mark.parametrize(
    "tokenizer",
    [
        pytest.param(b"{}", id="empty-object"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"\xff\xfe", id="no-utf8"),
        pytest.param(word_tokenizer()[:-40], id="truncated"),
        pytest.param(word_tokenizer().replace(b"WordLevel", b"Nonsense"), id="unknown-model"),
    ],
)
def test_a_tokenizer_that_does_not_parse(tokenizer: bytes) -> None:
    with pytest.raises(BundleFormatError, match="does not parse"):
        preprocessor(tokenizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"vocab_size": len(WORDS) - 1}, "wrong tokenizer: it knows 8 tokens", id="larger-vocabulary"),
        pytest.param({"pad_id": len(WORDS)}, "pads with 8", id="pad-beyond"),
        pytest.param({"max_length": 1}, "no place for the prompt", id="length"),
        pytest.param({"template": "a photo"}, "template must hold", id="template"),
        pytest.param({"ids": TensorSpec("i", "int64", ("n",))}, "must be", id="rank"),
        pytest.param({"mask": TensorSpec("m", "int64", ("n", 9))}, "must be", id="mask-shape"),
        pytest.param({"ids": TensorSpec("i", "bfloat16", ("n", "l"))}, "bfloat16", id="dtype"),
    ],
)
def test_a_tokenizer_or_contract_that_does_not_fit_the_model(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleFormatError, match=message):
        preprocessor(**changes)


def test_threads_may_share_it() -> None:
    text, wrong = preprocessor(), []

    def work(word: str) -> None:
        for _ in range(200):
            if ids(text, word, f"a {word}") != [[WORDS.index(word), 2, 0], [6, WORDS.index(word), 2]]:
                wrong.append(word)

    threads = [threading.Thread(target=work, args=(word,)) for word in ("red", "green", "blue")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

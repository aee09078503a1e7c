"""The built-in model's tokenizer: one token a word, lower case, everything else unknown."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mmedge.tabletop.vocabulary import words

SPECIAL = ("[PAD]", "[UNK]", "[CLS]")


def build_tokenizer(max_tokens: int = 24) -> Tokenizer:
    """A `tokenizers` word-level tokenizer over the grammar's words; each prompt begins with [CLS]."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    punctuation = pre_tokenizers.Punctuation(behavior="removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), punctuation])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", vocabulary["[CLS]"])]
    )
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(pad_id=vocabulary["[PAD]"], pad_token="[PAD]")
    return tokenizer

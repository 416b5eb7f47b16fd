"""A tokenizer made from the training texts alone, for networks that have no pretrained one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from agnews_exp.data.tokens import encodable

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD = re.compile(r"\w+|[^\w\s]")


def build_tokenizer(texts: Sequence[str], size: int) -> Any:
    """Build a fast WordPiece tokenizer: the most frequent words whole, everything else in single characters.

    Nothing is learned by merging, so equal texts give an equal vocabulary on every machine and thread count (the
    tokenizers library's own trainers break ties by hash order). Ties are broken by the alphabet.

    Args:
        texts: Training texts.
        size: Entries at most, special tokens and characters included.

    Returns:
        A ``transformers.PreTrainedTokenizerFast`` with BERT's lower-casing and special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words: Counter[str] = Counter()
    normalise = normalizers.BertNormalizer(lowercase=True)
    for text in texts:
        words.update(_WORD.findall(normalise.normalize_str(encodable(text))))
    characters = Counter[str]()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    # Half of a small vocabulary may be characters, so that words are left in it.
    kept = sorted(_most_common(characters, (size - len(SPECIAL)) // 4))
    entries = [*SPECIAL, *kept, *(f"##{c}" for c in kept)]
    known = set(entries)
    room = size - len(entries)
    entries += [word for word in _most_common(words, len(words)) if word not in known][: max(room, 0)]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalise
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    cls, sep = ("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(sep, cls)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=tokenizer, mask_token="[MASK]", **names)  # noqa: S106


def _most_common(counts: Counter[str], n: int) -> list[str]:
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]]

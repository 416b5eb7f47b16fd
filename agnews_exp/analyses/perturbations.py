"""Seeded changes of a text that leave its topic as it is.

A perturbation is a function of a text, a generator of random numbers and a strength. For those whose strength is a
share, each word is changed with that chance. The random numbers are drawn for all words before any is changed, so that
with the same generator a weaker perturbation changes a part of the words that a stronger one changes: a curve over
strengths follows the same rows and words.
"""

from __future__ import annotations

import html
import importlib.resources
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, Literal, TypeVar, get_args

import numpy as np

from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.data.batching import derive_seed


def parse_groups(lines: str) -> dict[str, tuple[str, ...]]:
    """Return each word's synonyms: the other words of the lines that it stands in, in the order of the list.

    A line is one group of words, separated by blanks; ``#`` opens a comment.
    """
    found: dict[str, dict[str, None]] = {}
    for line in lines.splitlines():
        words = line.split("#")[0].split()
        for word in words:
            found.setdefault(word, {}).update(dict.fromkeys(other for other in words if other != word))
    return {word: tuple(others) for word, others in found.items()}


@cache
def _shipped() -> dict[str, tuple[str, ...]]:
    file = importlib.resources.files(__package__) / "synonyms.txt"
    return parse_groups(file.read_text(encoding="utf-8"))


def synonyms_of(word: str) -> tuple[str, ...]:
    """Return the synonyms of a lower-case word in the same inflection; empty when the list has none."""
    return _shipped().get(word, ())


Kind = Literal[
    "swap", "keyboard", "insert", "delete", "upper", "lower", "synonyms", "html_added", "html_removed", "truncate"
]
"""All perturbations of a text alone."""

Perturbation = Callable[[str, np.random.Generator, float], str]
_T = TypeVar("_T")
_WordEdit = Callable[[str, float, float], str]

_PIECES = re.compile(r"\w+|\W+")
_ROWS: Final = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_OFFSETS: Final = (0.0, 0.5, 0.75, 1.25)
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
_TAGS: Final = ("b", "p", "strong", "i", "em")
_BARE_ENTITY = re.compile(r"&?(#\d{2,5}|#x[0-9a-fA-F]{2,5}|quot|amp|lt|gt|nbsp|apos|hellip|[lr][sd]quo|[mn]dash);")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_SPACES = re.compile(r"\s+")


def _key_neighbours() -> dict[str, str]:
    """Return the keys that touch each key on a QWERTY keyboard."""
    places = {
        key: (row + 0.0, column + offset)
        for row, (keys, offset) in enumerate(zip(_ROWS, _OFFSETS, strict=True))
        for column, key in enumerate(keys)
    }
    return {
        key: "".join(
            other for other, (r, c) in places.items() if other != key and abs(r - row) <= 1 and abs(c - column) <= 1
        )
        for key, (row, column) in places.items()
    }


NEIGHBOURS: Final = _key_neighbours()
"""Lower-case letters and digits, with the keys that touch each."""


def _pick(options: Sequence[_T], u: float) -> _T:
    return options[min(int(u * len(options)), len(options) - 1)]


def _swap(word: str, where: float, _: float) -> str:
    places = [i for i in range(len(word) - 1) if word[i] != word[i + 1]]
    if not places:
        return word
    i = _pick(places, where)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _keyboard(word: str, where: float, what: float) -> str:
    places = [i for i, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not places:
        return word
    i = _pick(places, where)
    typed = _pick(NEIGHBOURS[word[i].lower()], what)
    return word[:i] + (typed.upper() if word[i].isupper() else typed) + word[i + 1 :]


def _insert(word: str, where: float, what: float) -> str:
    i, typed = _pick(range(len(word) + 1), where), _pick(_ALPHABET, what)
    return word[:i] + (typed.upper() if i > 1 and word[i - 1].isupper() else typed) + word[i:]


def _delete(word: str, where: float, _: float) -> str:
    if len(word) < 2:
        return word
    i = _pick(range(len(word)), where)
    return word[:i] + word[i + 1 :]


def _synonym(word: str, _: float, what: float) -> str:
    # A capital may be a name's ("New" of New York), so only words without one are replaced.
    others = synonyms_of(word)
    return _pick(others, what) if others else word


def _tagged(word: str, where: float, what: float) -> str:
    """Return a word as a web feed leaves it: in an escaped tag, or with a broken apostrophe."""
    if where < 0.5:
        tag = _pick(_TAGS, what)
        return f"&lt;{tag}&gt;{word}&lt;/{tag}&gt;"
    return f"{word} #39;s" if where < 0.75 else f" quot;{word} quot;"


def _by_word(text: str, rng: np.random.Generator, strength: float, *, edit: _WordEdit) -> str:
    pieces = _PIECES.findall(text)
    numbers = rng.random((len(pieces), 3)).tolist()
    return "".join(
        edit(piece, where, what) if chance < strength and piece[0].isalnum() else piece
        for piece, (chance, where, what) in zip(pieces, numbers, strict=True)
    )


def _html_removed(text: str, _: np.random.Generator, __: float) -> str:
    plain = html.unescape(_BARE_ENTITY.sub(r"&\1;", text))
    plain = re.sub(r"\s+(?=['’]\w)", "", _TAG.sub(" ", html.unescape(plain)))
    return _SPACES.sub(" ", plain.replace("\\", " ")).strip() or text


def _truncate(text: str, _: np.random.Generator, strength: float) -> str:
    return " ".join(text.split()[: int(strength)])


PERTURBATIONS: Final[dict[Kind, Perturbation]] = {
    "swap": partial(_by_word, edit=_swap),
    "keyboard": partial(_by_word, edit=_keyboard),
    "insert": partial(_by_word, edit=_insert),
    "delete": partial(_by_word, edit=_delete),
    "upper": partial(_by_word, edit=lambda word, _, __: word.upper()),
    "lower": partial(_by_word, edit=lambda word, _, __: word.lower()),
    "synonyms": partial(_by_word, edit=_synonym),
    "html_added": partial(_by_word, edit=_tagged),
    "html_removed": _html_removed,
    "truncate": _truncate,
}
"""By kind: in each chosen word two letters change places, one becomes a neighbour on the keyboard, one is inserted or
deleted; the word is in upper or lower case, replaced by a synonym (where the list has one), put into HTML residue. Of
the whole text: HTML residue is undone; only the first words stay."""

DESCRIPTIONS: Final[dict[str, str]] = {
    "swap": "two letters swapped",
    "keyboard": "neighbouring key hit",
    "insert": "letter inserted",
    "delete": "letter deleted",
    "upper": "upper case",
    "lower": "lower case",
    "synonyms": "synonyms",
    "html_added": "HTML residue added",
    "html_removed": "HTML residue removed",
    "truncate": "first words only",
    "title_only": "title only",
    "description_only": "description only",
}
"""How tables and figures name them."""

WITHOUT_STRENGTH: Final = frozenset({"html_removed", "title_only", "description_only"})
WORDS: Final = frozenset({"truncate"})
"""Kinds whose strength is a number of words; all others' is the share of words changed, in (0, 1]."""


@dataclass(frozen=True)
class Variant:
    """A perturbation of a certain strength."""

    kind: str  # a key of ``PERTURBATIONS``
    strength: float  # share of words in (0, 1], or words to keep; without meaning for ``html_removed``

    @property
    def name(self) -> str:
        """A short name for metrics and files, such as ``swap_0.1``."""
        return self.kind if self.kind in WITHOUT_STRENGTH else f"{self.kind}_{self.strength:g}"

    @property
    def label(self) -> str:
        """A name for people, such as ``two letters swapped, 10 % of words``."""
        what = DESCRIPTIONS[self.kind]
        if self.kind in WITHOUT_STRENGTH:
            return what
        if self.kind in WORDS:
            return f"first {self.strength:g} words only"
        known = "known " if self.kind == "synonyms" else ""
        return f"{what}, {100 * self.strength:g} % of {known}words"


def make_variant(kind: str, strength: float) -> Variant:
    """Return a checked variant.

    Raises:
        ConfigError: There is no such kind, or the strength is out of its range.
    """
    if kind not in get_args(Kind):
        raise unknown_name("perturbation", kind, get_args(Kind))
    if kind in WORDS and (strength < 1 or strength != int(strength)):
        raise ConfigError(f"{kind}={strength}: it keeps a whole number of words, at least 1.", fix=f"{kind}: [10]")
    if kind not in WORDS and not 0 < strength <= 1:
        raise ConfigError(f"{kind}={strength}: it is a share of words, in (0, 1].", fix=f"{kind}: [0.1]")
    return Variant(kind, float(strength))


def perturb(texts: Sequence[str], row_ids: Sequence[int], variant: Variant, seed: int) -> list[str]:
    """Change texts; each depends on its own words, its row id and the seed only, whatever stands beside it."""
    change = PERTURBATIONS[variant.kind]  # type: ignore[index]
    stream = derive_seed("perturbation", variant.kind, seed)
    return [
        change(text, np.random.default_rng([stream, int(row)]), variant.strength)
        for text, row in zip(texts, row_ids, strict=True)
    ]

"""The five cleaning pipelines and the atoms they are made of. Pure standard library, no downloads."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Final, Literal

from agnews_exp.config.errors import unknown_name
from agnews_exp.features.contractions import expand_contractions

Handling = Literal["keep", "remove", "replace"]

_WHITESPACE: Final = re.compile(r"\s+")
# A tag opens with a letter, "/" or "!", so "3 < 5 and 7 > 6" is no tag. News feeds escape their tags
# (&lt;b&gt;).
_HTML: Final = re.compile(r"<[A-Za-z/!][^<>]*>|&lt;[A-Za-z/!].*?&gt;")
_URL: Final = re.compile(r"(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
_EMAIL: Final = re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_PLACEHOLDER: Final = "\x00"
_PUNCTUATION: Final = re.compile(rf"[^\w\s{_PLACEHOLDER}]|_")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Cleaning:
    """Which atoms a pipeline applies; they run in the order of the fields, whitespace last.

    Attributes:
        fix_encoding: Undo HTML entities, then drop what is not ASCII.
        lowercase: Lower-case everything (the tokens ``<URL>``, ``<EMAIL>``, ``<NUM>`` come later and stay
            upper-case).
        contractions: Write contractions out.
        html_tags: Keep or remove tags, escaped ones too.
        urls: Keep, remove, or replace by ``<URL>``.
        emails: Keep, remove, or replace by ``<EMAIL>``.
        remove_punctuation: Replace every punctuation character by a space, so that words do not grow
            together.
        numbers_to_token: Replace every number by ``<NUM>``.
    """

    fix_encoding: bool = False
    lowercase: bool = False
    contractions: bool = False
    html_tags: Handling = "keep"
    urls: Handling = "keep"
    emails: Handling = "keep"
    remove_punctuation: bool = False
    numbers_to_token: bool = False


PIPELINES: Final[dict[str, Cleaning | None]] = {
    "none": None,
    "basic": Cleaning(),
    "aggressive": Cleaning(
        lowercase=True,
        html_tags="remove",
        urls="remove",
        emails="remove",
        remove_punctuation=True,
        numbers_to_token=True,
    ),
    "moderate": Cleaning(lowercase=True, urls="replace", emails="replace"),
    "minimal": Cleaning(fix_encoding=True),
    "expansion": Cleaning(lowercase=True, contractions=True, urls="replace", emails="replace"),
}
"""Choices of ``features.clean``; ``none`` leaves the text as it is, all others also normalise whitespace."""


def cleaning(name: str) -> Cleaning | None:
    """Return the pipeline of that name (None for ``none``).

    Raises:
        ConfigError: There is no such pipeline.
    """
    if name not in PIPELINES:
        raise unknown_name("value for features.clean", name, list(PIPELINES))
    return PIPELINES[name]


def normalise_whitespace(text: str) -> str:
    """Return the text with every run of whitespace made one space, and none at the ends."""
    return _WHITESPACE.sub(" ", text).strip()


def fix_encoding(text: str) -> str:
    """Undo HTML entities (``&amp;``) and drop the characters outside ASCII."""
    return html.unescape(text).encode("ascii", "ignore").decode("ascii")


def _handle(pattern: re.Pattern[str], handling: Handling, token: str, text: str) -> str:
    if handling == "keep":
        return text
    return pattern.sub(" " if handling == "remove" else f" {token} ", text)


def clean_text(text: str, steps: Cleaning) -> str:
    """Clean one text.

    Args:
        text: Any text, possibly empty.
        steps: The atoms to apply.

    Returns:
        The cleaned text; may be empty.
    """
    if steps.fix_encoding:
        text = fix_encoding(text)
    if steps.lowercase:
        text = text.lower()
    if steps.contractions:
        text = expand_contractions(text)
    text = _handle(_HTML, steps.html_tags, "", text)
    text = _handle(_URL, steps.urls, "<URL>", text)
    text = _handle(_EMAIL, steps.emails, "<EMAIL>", text)
    # Numbers before punctuation, else 3.5 would be two numbers; a placeholder saves the token's brackets.
    if steps.numbers_to_token:
        text = _NUMBER.sub(f" {_PLACEHOLDER} ", text.replace(_PLACEHOLDER, " "))
    if steps.remove_punctuation:
        text = _PUNCTUATION.sub(" ", text)
    if steps.numbers_to_token:
        text = text.replace(_PLACEHOLDER, "<NUM>")
    return normalise_whitespace(text)

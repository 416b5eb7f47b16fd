"""Perturbations: what each does, that it depends on row and seed alone, and that strengths are nested."""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
import pytest

from agnews_exp.analyses.perturbations import (
    NEIGHBOURS,
    PERTURBATIONS,
    Kind,
    Variant,
    make_variant,
    parse_groups,
    perturb,
    synonyms_of,
)
from agnews_exp.core.errors import ConfigError

TEXTS = [
    "Oil prices rose sharply on Friday, as storms closed 3 ports (Reuters) Reuters - Crude climbed again.",
    "Home side beat rivals 3-1 to win the Cup; their coach said it was #39;a great night #39;.",
    "A",
    "... --- !!!",
    "Straße und Ökonomie größer als früher 東京",
] * 8
WORD_KINDS = [kind for kind in get_args(Kind) if kind not in ("html_removed", "truncate")]


def strength(kind):
    return 5 if kind == "truncate" else 0.3


def one(kind, text, s=1.0, seed=0):
    return perturb([text], [0], Variant(kind, s), seed)[0]


@pytest.mark.parametrize("kind", list(PERTURBATIONS))
def test_a_row_is_changed_alike_whatever_stands_beside_it(kind):
    variant = make_variant(kind, strength(kind))
    ids = list(range(100, 100 + len(TEXTS)))
    whole = perturb(TEXTS, ids, variant, 3)
    backwards = perturb(TEXTS[::-1], ids[::-1], variant, 3)[::-1]
    alone = [perturb([text], [row], variant, 3)[0] for text, row in zip(TEXTS, ids, strict=True)]
    assert whole == backwards == alone


@pytest.mark.parametrize("kind", ["swap", "keyboard", "insert", "delete", "html_added"])
def test_seed_and_row_decide_what_changes(kind):
    variant = Variant(kind, 0.3)
    same = [TEXTS[0]] * 30
    by_row = perturb(same, list(range(30)), variant, 0)
    assert len(set(by_row)) > 20
    assert by_row != perturb(same, list(range(30)), variant, 1)


@pytest.mark.parametrize("kind", WORD_KINDS)
def test_words_changed_weakly_are_among_those_changed_strongly(kind):
    text = " ".join(["said", "Rising", "people", "often", "big"] * 60)
    weak, strong = (one(kind, text, s) for s in (0.1, 0.4))

    def changed(other):
        # HTML residue brings blanks of its own, so it is told by where the old words stay.
        return {i for i, (a, b) in enumerate(zip(text.split(), other.split(), strict=True)) if a != b}

    if kind == "html_added":
        assert len(re.findall("&lt;|quot;|#39;", weak)) < len(re.findall("&lt;|quot;|#39;", strong))
    else:
        assert changed(weak) < changed(strong)


@pytest.mark.parametrize("kind", ["swap", "keyboard", "insert", "delete"])
def test_strength_is_the_share_of_words_changed(kind):
    text = " ".join(f"word{'abcdefghij'[i % 10]}x" for i in range(4000))
    changed = sum(a != b for a, b in zip(text.split(), one(kind, text, 0.1).split(), strict=True))
    assert changed / 4000 == pytest.approx(0.1, abs=0.02)  # four standard errors


def test_each_typo_is_what_its_name_says():
    for seed in range(50):
        swapped = one("swap", "planet", seed=seed)
        assert sorted(swapped) == sorted("planet")
        assert sum(a != b for a, b in zip(swapped, "planet", strict=True)) == 2
        typed = one("keyboard", "Planet", seed=seed)
        (place,) = [i for i in range(6) if typed[i] != "Planet"[i]]
        assert typed[place].lower() in NEIGHBOURS["Planet"[place].lower()]
        assert typed[place].isdigit() or typed[place].isupper() == (place == 0)
        assert len(one("insert", "planet", seed=seed)) == 7
        deleted = one("delete", "planet", seed=seed)
        assert deleted in {"planet"[:i] + "planet"[i + 1 :] for i in range(6)}


def test_neighbours_touch_on_the_keyboard():
    assert set(NEIGHBOURS["g"]) >= {"f", "h", "t", "b"}
    assert "p" not in NEIGHBOURS["q"]
    assert all(key in NEIGHBOURS[other] for key, others in NEIGHBOURS.items() for other in others)


def test_punctuation_blanks_and_single_letters_survive():
    text = "A -- b,  (c)\n!"
    for kind in ("swap", "delete"):
        assert one(kind, text) == text
    assert one("upper", "oil -- up 3%") == "OIL -- UP 3%"
    assert one("lower", "NATO says") == "nato says"


def test_html_residue_is_undone():
    text = (
        r"Dell #39;s &lt;b&gt;...&lt;/b&gt; quot;new quot; plan\costs  #36;5 &amp; more &lt;A HREF=\"x\"&gt;D&lt;/A&gt;"
    )
    assert one("html_removed", text) == 'Dell\'s ... "new " plan costs $5 & more D'
    assert one("html_removed", "nothing to do") == "nothing to do"
    assert one("html_removed", "3 < 5 and 7 > 6") == "3 < 5 and 7 > 6"
    assert one("html_removed", "&lt;br&gt;") == "&lt;br&gt;"  # never an empty text


def test_added_residue_can_be_told_from_words():
    words = [f"word{i}" for i in range(30)]
    text = one("html_added", " ".join(words))
    assert re.sub(r"&lt;/?\w+&gt;|#39;s|quot;", "", text).split() == words


def test_truncation_keeps_the_first_words():
    assert one("truncate", "a b  c\nd", 3) == "a b c"
    assert one("truncate", "a b", 9) == "a b"


def test_synonyms_leave_names_and_unknown_words_alone():
    assert one("synonyms", "Big zyzzyva NATO") == "Big zyzzyva NATO"
    assert one("synonyms", "big") == "large"
    assert one("synonyms", "big", 0.0) == "big"


def test_synonym_list_is_symmetric_and_clean():
    groups = parse_groups("big large huge # comment\n\nbig great\n")
    assert groups["big"] == ("large", "huge", "great")
    assert groups["great"] == ("big",)
    known = [word for word in ("said", "big", "people", "quickly") if synonyms_of(word)]
    assert known == ["said", "big", "people", "quickly"]
    assert all(other in synonyms_of(back) for other in synonyms_of("big") for back in ("big",))
    assert all("big" in synonyms_of(other) for other in synonyms_of("big"))
    assert synonyms_of("zyzzyva") == ()


@pytest.mark.parametrize(
    ("kind", "value", "part"),
    [("swop", 0.1, "swap"), ("swap", 0.0, "share"), ("swap", 1.5, "share"), ("truncate", 2.5, "whole number")],
)
def test_bad_variants_are_refused(kind, value, part):
    with pytest.raises(ConfigError, match=part):
        make_variant(kind, value)


def test_names_and_labels_say_kind_and_strength():
    assert (make_variant("swap", 0.05).name, make_variant("truncate", 10).name) == ("swap_0.05", "truncate_10")
    assert make_variant("swap", 0.05).label == "two letters swapped, 5 % of words"
    assert make_variant("truncate", 10).label == "first 10 words only"
    assert make_variant("html_removed", 1.0).label == "HTML residue removed"
    assert np.isclose(make_variant("upper", 1).strength, 1.0)

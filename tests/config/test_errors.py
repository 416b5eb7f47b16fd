"""Errors say what is wrong and what was meant; those about storage are found wherever they sit in a chain."""

from __future__ import annotations

import errno

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import AgnewsError, ConfigError, unknown_name
from agnews_exp.core.process import explain_os_error, find_os_error
from agnews_exp.core.suggestions import nearest
from agnews_exp.runners.preflight import check_ready


def test_disk_full_is_found_behind_another_exception():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/big/file")
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        found = find_os_error(error)
    assert found is not None
    explained = explain_os_error(found)
    assert explained is not None
    assert "/big/file" in str(explained)
    assert "disk is full" in str(explained)
    assert explained.exit_code == 3


def test_other_os_errors_are_left_to_show_as_bugs():
    assert find_os_error(FileNotFoundError(errno.ENOENT, "gone")) is None


@pytest.mark.parametrize(("word", "expected"), [("linear_svm", "linear_svc"), ("zzzz", None), ("logre", "logreg")])
def test_nearest_name(word, expected):
    assert nearest(word, ["linear_svc", "logreg", "dummy"]) == expected


def test_unknown_name_lists_what_is_allowed():
    error = unknown_name("choice for model", "logre", ["logreg", "dummy"])
    assert "dummy, logreg" in str(error)
    assert "use 'logreg'" in str(error)


def test_bad_overrides_name_key_and_value_and_what_is_meant():
    for overrides, words in (
        (("data_fraction=0",), ("data_fraction=0", "greater than 0")),
        (("data_fraction=1.5",), ("data_fraction=1.5", "less than or equal to 1")),
        (("data_fraction=abc",), ("data_fraction='abc'", "number")),
        (("seed=-1",), ("seed=-1", "greater than or equal to 0")),
        (("model=linear_svm",), ("'linear_svm'", "Did you mean 'linear_svc'?", "multinomial_nb")),
        (("modle=linear_svc",), ("'modle'", "Did you mean model=linear_svc?")),
        (("model.c=1",), ("'c'", "Did you mean model.C=1")),
        (
            ("model=knn", "model.class_weight=balanced"),
            ("have it: bernoulli_nb", "logreg", "model=linear_svc model.class"),
        ),
        (("model.C=-1",), ("model.C=-1", "float in the range (0.0, inf)")),
        (("model._target_=os.system",), ("model._target_=os.system", "may not be built")),
        (("model._target_=sklearn.os.system",), ("model._target_=sklearn.os.system", "no module")),
        (("model._target_=sklearn.datasets.fetch_openml",), ("may not be built", "allowed")),
        (("model._target_=agnews_exp.data.files.os.system",), ("agnews_exp.data.files.os",)),
        (
            ("features.blocks.word.max_feature=9",),
            ("'max_feature'", "Did you mean features.blocks.word.max_features=9"),
        ),
        (("evaluation.primary=test/macro_f1",), ("evaluation: primary=test/macro_f1", "val/macro_f1 or cv/macro_f1")),
        (("evaluation.primary=macro_f2",), ("write val/macro_f2",)),
        (("evaluation.folds=1",), ("evaluation: folds=1 is no cross-validation",)),
        (("trainer.devices=0",), ("trainer.devices=0: ", "equal to 1, or 'auto', or a valid list")),
        (("sweep.name=a/b",), ("sweep.name='a/b': a name is of letters",)),
        (("evaluation.primary=val/f1",), ("evaluation.primary=val/f1", "macro_f1")),
        (("model=multinomial_nb", "features=text"), ("model=multinomial_nb", "features=text")),
        (("tags={a:1",), ("tags={a:1", "quote")),
        (("data.nonsense=1",), ("'nonsense'", "allowed")),
    ):
        with pytest.raises(ConfigError) as caught:
            check_ready(check_config(compose_config(["data=sample", *overrides])))
        for word in words:
            assert word in str(caught.value), overrides


HUGE = ("x" * 100_000, "x y\n" * 25_000)


def test_no_error_repeats_endless_input():
    for text in HUGE:
        for make in (
            lambda text: AgnewsError(text, fix=text),
            lambda text: unknown_name("name", text, ["a", text[:-1]]),
            lambda text: compose_config([f"model={text}"]),
            lambda text: compose_config([f"{text}=1"]),
            lambda text: compose_config([f"model.C={{{text}"]),
        ):
            with pytest.raises(AgnewsError) as caught:
                raise make(text)
            assert len(str(caught.value)) < 25_000

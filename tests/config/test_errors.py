"""Storage errors are recognised wherever they sit in a chain."""

from __future__ import annotations

import errno

import pytest

from agnews_exp.core.errors import unknown_name
from agnews_exp.core.process import explain_os_error, find_os_error
from agnews_exp.core.suggestions import nearest


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

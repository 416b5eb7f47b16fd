"""A stored result is the answer only where the code that made it is the code of today."""

from __future__ import annotations

import pytest

from agnews_exp.tracking.environment import describe_environment, other_packages, other_source


@pytest.fixture(scope="module")
def now(tmp_path_factory):
    return describe_environment(tmp_path_factory.mktemp("root"))


def test_changed_source_code_is_noticed_and_a_record_that_says_nothing_is_believed(now):
    assert not other_source(now, now)
    assert not other_source({}, now)
    assert other_source({**now, "source": "0" * 16}, now)


def test_libraries_of_another_version_are_named(now):
    assert other_packages(now, now) == ""
    before = {**now, "packages": {**now["packages"], "numpy": "1.0.0"}}
    assert other_packages(before, now) == f"numpy 1.0.0 (now {now['packages']['numpy']})"

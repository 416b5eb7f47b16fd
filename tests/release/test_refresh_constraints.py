"""scripts/refresh_constraints.py: what is kept, dropped and reported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("refresh_constraints", REPO / "scripts" / "refresh_constraints.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(**versions):
    return {"install": [{"metadata": {"name": n.replace("_", "-"), "version": v}} for n, v in versions.items()]}


def test_heading_is_kept_and_names_are_sorted_whatever_their_case(script):
    heading, pins = script.read_pins("# one\n# two\nb==1\n")
    text = script.write_pins(heading, pins | {"A_b": "2", "C": "3"})
    assert text == "# one\n# two\nA_b==2\nb==1\nC==3\n"


def test_own_project_and_gpu_libraries_are_left_out_and_build_tags_cut(script):
    pins = script.pins_of_report(report(agnews_exp="0.1", nvidia_cublas="13", triton="3", torch="2.13.0+cpu"))
    assert pins == {"torch": "2.13.0"}


def test_changes_tell_new_gone_and_moved_but_not_respelt(script):
    lines = script.changes({"A_b": "1", "gone": "2", "same": "3"}, {"a-b": "1", "came": "4", "same": "5"})
    assert [line.split()[0] for line in lines] == ["came", "gone", "same"]
    assert "(new)" in lines[0]
    assert "(gone)" in lines[1]


def test_committed_file_is_what_the_script_would_write_of_it(script):
    text = script.CONSTRAINTS.read_text()
    heading, pins = script.read_pins(text)
    assert heading
    assert set(script.write_pins(heading, pins).splitlines()) == set(text.splitlines())


def test_a_version_for_later_patches_of_python_is_avoided(script):
    content = report(old="1", new="2", any="3")
    for item, needs in zip(content["install"], (">=3.11,!=3.11.7", ">=3.11.5", None), strict=True):
        item["metadata"]["requires_python"] = needs
    assert script.too_new(content) == ["new!=2"]


def test_every_pinned_version_takes_the_oldest_python(script):
    _, pins = script.read_pins(script.CONSTRAINTS.read_text())
    installed = [d.metadata for d in importlib.metadata.distributions()]
    known = [m for m in installed if pins.get(m["Name"]) == m["Version"]]
    assert len(known) > 100
    items = [
        {"metadata": {"name": m["Name"], "version": m["Version"], "requires_python": m["Requires-Python"]}}
        for m in known
    ]
    assert script.too_new({"install": items}) == []

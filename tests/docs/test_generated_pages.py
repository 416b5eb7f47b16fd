"""The generated reference covers every group, choice, key and command; the site builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agnews_exp.cli import build_parser
from agnews_exp.config.compose import compose_config, list_groups
from agnews_exp.config.validation import check_config

REPO = Path(__file__).resolve().parents[2]
SHOWN = re.compile(r"^```yaml title=\"mine/([^\"]+)\"\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def scripts():
    """The folder of the generating scripts is importable, as it is for MkDocs' hook."""
    sys.path.insert(0, str(REPO / "scripts"))
    yield
    sys.path.remove(str(REPO / "scripts"))


@pytest.fixture(scope="module")
def pages(scripts):
    import docs_pages

    return docs_pages.all_pages()


def section(page, title):
    """The text below a heading."""
    return re.split(rf"^#+ {re.escape(title)}$", page, flags=re.MULTILINE)[1].split("\n## ")[0]


def test_every_choice_has_a_section_with_its_header_and_command(pages):
    for group, choices in list_groups().items():
        page = pages[f"reference/config/{group.split('/')[0]}.md"]
        for choice in choices:
            assert re.search(rf"^#+ {re.escape(choice)}$", page, flags=re.MULTILINE), f"{group}/{choice}"
    assert "python run.py model=logreg model.C=10" in section(pages["reference/config/model.md"], "logreg")


def test_every_key_of_a_model_is_in_its_table(pages):
    for path in sorted((REPO / "conf" / "model").glob("*.yaml")):
        keys = set(yaml.safe_load(path.read_text())) - {"defaults", "_target_", "name"}
        text = section(pages["reference/config/model.md"], path.stem)
        missing = [key for key in keys if f"| `{key}" not in text]
        assert not missing, (path.stem, missing)


@pytest.mark.parametrize(
    ("page", "choice", "key", "allowed"),
    [
        ("model", "logreg", "C", "number > 0"),  # scikit-learn's constraint
        ("model", "cascade", "fit_share", "number > 0, &lt; 1"),  # an annotation of ours
        ("model", "calibrated_svc", "estimator.loss", "one of `hinge`, `squared_hinge`"),  # a nested component
        ("trainer", "auto", "precision", "one of `auto`, `32`"),  # the schema
    ],
)
def test_allowed_values_come_from_schema_annotation_and_constraint(pages, page, choice, key, allowed):
    rows = section(pages[f"reference/config/{page}.md"], choice).splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{key}` ")]
    assert allowed in row


def test_comments_beside_keys_are_their_meaning(pages):
    assert "what the encoder takes" in section(pages["reference/config/model.md"], "distilbert")


def test_every_command_and_argument_is_in_the_reference(pages):
    page = pages["reference/commands.md"]
    for action in build_parser()._subparsers._group_actions:
        for name, command in action.choices.items():
            assert f"## agnews {name}\n" in page
            for argument in command._actions:
                if argument.option_strings and "--help" not in argument.option_strings:
                    assert argument.option_strings[0] in page


def test_options_of_a_constraint_are_sorted_because_sets_have_no_order(scripts):
    import docs_values
    from sklearn.utils._param_validation import StrOptions

    names = {f"option_{n}" for n in range(40)}
    assert docs_values.constraint_text([StrOptions(names)]) == f"one of {', '.join(f'`{n}`' for n in sorted(names))}"


def test_configurations_that_the_how_tos_show_compose_and_build(tmp_path, monkeypatch):
    shown = {}
    for page in sorted((REPO / "docs" / "how-to").glob("*.md")):
        text = page.read_text()
        shown |= {path: (body, page.stem) for path, body in SHOWN.findall(text)}
        for name, body in re.findall(r"^```python title=\"([^\"]+)\"\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            (tmp_path / name).write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AGNEWS_COMPONENTS", ",".join(path.stem for path in tmp_path.glob("*.py")))
    for path, (body, _) in shown.items():
        file = tmp_path / "mine" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body)
    assert {path.split("/")[0] for path in shown} == {"data", "features", "loss", "model"}
    for path in shown:
        group, choice = path.removesuffix(".yaml").split("/")
        more = {"centroid": ["features=svd"]}.get(choice, ["model=tiny"] if group == "loss" else [])
        plain = check_config(compose_config([f"{group}={choice}", *more], extra=[tmp_path / "mine"])).plain
        assert plain["model"]["loss"].endswith(f".{choice}") if group == "loss" else plain[group]["name"] == choice


@pytest.mark.slow
def test_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "reference/config/model.html", "reference/commands.html", "contributing.html"} <= built
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)|<link[^>]+stylesheet[^>]+href=\"(https?:[^\"]+)",
            page.read_text(),
        )
        assert not fetched, page

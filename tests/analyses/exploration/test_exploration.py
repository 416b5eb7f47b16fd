"""`agnews eda`: what it writes, what it does not repeat and what it leaves out."""

from __future__ import annotations

import csv
import json

import pytest
from filelock import FileLock

from agnews_exp.analyses.exploration import lengths
from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.analyses.exploration.performing import compose_eda, perform_eda, stored_parts
from agnews_exp.config.compose import compose_config
from agnews_exp.config.targets import resolve_target
from agnews_exp.core.errors import ConfigError
from agnews_exp.drawing import Chart
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits

PARTS = ("classes", "lengths", "vocabulary", "ngrams", "similarity", "duplicates", "label_noise")
QUICK = ["data=sample", "data_fraction=0.2", "tracking=none", "eda=fast"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("eda")


def explore(root, *overrides, force=False):
    """Return the configuration, the findings and each part's status of this call."""
    config = compose_eda([*QUICK, f"paths.root_dir={root}", *overrides])
    statuses = {}
    content = perform_eda(
        config, load_splits(config.checked, Stages()), force=force, report=lambda name, s: statuses.update({name: s})
    )
    return config, content, statuses


def only(*kept):
    """Switch off all parts but some."""
    names = [k for k in compose_config(["eda=full"])["eda"] if k not in ("name", "folder", "seed", "texts")]
    return [f"eda.{name}=null" for name in names if name not in kept]


@pytest.fixture(scope="module")
def done(root):
    return explore(root, *only(*PARTS))


def test_each_figure_comes_as_png_svg_and_data(done):
    config, content, _ = done
    stored = json.loads((config.folder / "findings.json").read_text())
    assert stored["parts"].keys() == content["parts"].keys()
    assert config.folder.name == "sample-0.2-fast"
    assert {part["status"] for part in stored["parts"].values()} <= {"finished", "left_out"}
    summary = (config.folder / "summary.md").read_text()
    n_figures = 0
    for name, found in stored_parts(config.folder).items():
        for chart in (block for block in found.blocks if isinstance(block, Chart)):
            n_figures += 1
            place = config.folder / name / chart.name
            assert place.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
            assert "<svg" in place.with_suffix(".svg").read_text()
            with place.with_suffix(".csv").open() as file:
                assert list(csv.DictReader(file)), name
            assert f"({name}/{chart.name}.png)" in summary
    assert n_figures >= 8
    for heading in ("## How long texts are", "## Vocabulary", "## Duplicates", "## Doubtful labels"):
        assert heading in summary


def test_findings_agree_with_the_rows(done):
    config, content, _ = done
    splits = load_splits(config.checked, Stages())
    words = [len(text.split()) for text in splits.train.texts]
    metrics = {name: part["metrics"] for name, part in content["parts"].items()}
    assert metrics["lengths"]["words/mean"] == pytest.approx(sum(words) / len(words))
    assert metrics["classes"]["rows/train"] == len(splits.train) == content["data"]["rows"]["train"]
    copies = len(splits.test) - len(set(splits.test.texts) - set(splits.train.texts))
    assert metrics["duplicates"]["near/test-train"] >= metrics["duplicates"]["exact/test-train"] >= copies - 50
    assert metrics["label_noise"]["out_of_fold_accuracy"] > 0.6


def test_finished_parts_are_not_repeated_and_a_changed_one_alone_is(root, done):
    config, content, _ = done
    before = {p.name: p.stat().st_mtime_ns for p in config.folder.glob("*/*.png")}
    _, again, statuses = explore(root, *only(*PARTS))
    assert {s for n, s in statuses.items() if content["parts"][n]["status"] == "finished"} == {"kept"}
    _, changed, statuses = explore(root, *only(*PARTS), "eda.ngrams.n_top=7", "eda.similarity=null")
    assert [n for n, s in statuses.items() if s == "finished"] == ["ngrams"]
    after = {p.name: p.stat().st_mtime_ns for p in config.folder.glob("*/*.png")}
    assert {name for name in after if after[name] != before[name]} == {"ngrams.png"}
    assert "class_similarity.png" not in after  # of a part that is switched off since
    assert again["parts"]["lengths"] == changed["parts"]["lengths"]


def test_same_seed_gives_the_same_numbers(done):
    config, first, _ = done
    corpus = ExploredCorpus(load_splits(config.checked, Stages()), config.folder, seed=42)
    for name in ("lengths", "ngrams", "label_noise"):
        arguments = {key: value for key, value in config.parts[name].items() if key != "_target_"}
        again = resolve_target(config.parts[name]["_target_"], name)(corpus, **arguments)
        assert dict(again.metrics) == first["parts"][name]["metrics"], name


def test_a_part_that_fails_or_is_cut_off_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    parts = only("classes", "lengths", "overlap")

    def broken(*_args, **_more):
        raise ValueError("this text cannot be measured")

    monkeypatch.setattr(lengths, "text_lengths", broken)
    config, content, _ = explore(tmp_path, *parts)
    assert {n: p["status"] for n, p in content["parts"].items()} == {
        "classes": "finished", "lengths": "failed", "overlap": "finished",
    }  # fmt: skip
    assert "this text cannot be measured" in (config.folder / "summary.md").read_text()

    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(lengths, "text_lengths", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explore(tmp_path, *parts)
    monkeypatch.undo()
    _, _, statuses = explore(tmp_path, *parts)
    assert statuses == {"classes": "kept", "lengths": "finished", "overlap": "kept"}
    # One part is done anew, the next is cut off: the third keeps what it had.
    monkeypatch.setattr(lengths, "text_lengths", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explore(tmp_path, *parts, "eda.lengths.outlier_percentile=90", "eda.seed=1")
    monkeypatch.undo()
    stored = json.loads((config.folder / "findings.json").read_text())["parts"]
    assert list(stored) == ["classes", "lengths", "overlap"]


def test_a_second_exploration_in_the_same_folder_is_refused(tmp_path):
    config, _, _ = explore(tmp_path, *only("classes"))
    with (
        FileLock(config.folder.with_name(f".{config.folder.name}.lock")),
        pytest.raises(ConfigError, match="Another exploration"),
    ):
        explore(tmp_path, *only("classes", "overlap"))
    _, content, _ = explore(tmp_path, *only("classes", "overlap"))
    assert set(content["parts"]) == {"classes", "overlap"}


def test_files_hold_no_text_where_that_is_not_wanted(tmp_path):
    parts = only("lengths", "duplicates", "label_noise")
    config, _, _ = explore(tmp_path, "eda.texts=false", "data_fraction=1.0", *parts)
    for name in ("lengths/longest_texts", "duplicates/near_duplicates", "label_noise/label_noise_rows"):
        header = (config.folder / f"{name}.csv").read_text().splitlines()[0]
        assert "row_id" in header
        assert "text" not in header


@pytest.mark.parametrize(
    ("word", "says"),
    [("eda.lenghts.outlier_percentile=90", "lengths"), ("eda.lengths.outlier_percentile=10", "greater than 50"),
     ("eda=ful", "full"), ("eda.folder=a/b", "folder"), ("eda.seed=-1", "seed"), ("eda.map.method=pca", "umap")],
)  # fmt: skip
def test_wrong_settings_are_refused_before_any_work(word, says):
    with pytest.raises(ConfigError) as caught:
        compose_eda(["data=sample", word])
    assert says in str(caught.value)


@pytest.mark.slow
def test_command_prints_a_table_and_logs_one_run(project):
    words = ["eda", "data=sample", "data_fraction=0.2", *only("classes", "lengths", "readability")]
    first = project.agnews(*words)
    assert first.returncode == 0, first.stderr
    assert "readability" in first.stdout
    assert "summary.md" in first.stdout
    (run,) = project.mlflow_runs()
    assert run.data.tags["purpose"] == "eda"
    assert run.data.metrics["eda/classes/rows/train"] == 680
    second = project.agnews(*words)
    assert "nothing was to do" in second.stdout
    assert len(project.mlflow_runs()) == 1


@pytest.mark.ag_news
@pytest.mark.slow
def test_artefacts_of_a_real_corpus_tell_its_classes(ag_news_dir, tmp_path):
    words = ["data=ag_news", f"data.dir={ag_news_dir}", "data_fraction=0.1"]
    _, content, _ = explore(tmp_path, *words, *only("artefacts"))
    share = content["parts"]["artefacts"]["metrics"]
    assert share["share/HTML residue"] > 0.1
    # Residue alone, without the names of news agencies: far above what chance gives on more than 5,000 rows.
    error = (share["probe/majority"] * (1 - share["probe/majority"]) / 5_000) ** 0.5
    assert share["probe/accuracy"] > share["probe/majority"] + 10 * error

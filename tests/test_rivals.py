"""`agnews evaluate`: a file of answers becomes a run that stands in the tables, or is refused with what is missing."""

from __future__ import annotations

import csv
import json

import pytest

FAST = ("data=sample", "features=word_tfidf", "model=multinomial_nb", "evaluation.latency_repeats=0", "tracking=none")


@pytest.fixture(scope="module")
def asked(module_project):
    """A project with a run, and the questions that it answered."""
    assert module_project.run(*FAST, "name=ours").returncode == 0
    done = module_project.agnews("evaluate", "--questions", "questions.csv")
    assert done.returncode == 0, done.stderr
    assert "run    ours-" in done.stderr
    with (module_project.root / "questions.csv").open(newline="") as file:
        return module_project, list(csv.DictReader(file))


def answers_of(project, run="ours"):
    """A run's own answers by split and row, as a rival would give them."""
    (folder,) = [path for path in project.run_folders if project.result(path)["name"] == run]
    import pyarrow.parquet as pq

    names = project.result(folder)["class_names"]
    return {
        (r["split"], str(r["row_id"])): names[r["prediction"]]
        for r in pq.read_table(folder / "predictions.parquet").to_pylist()
    }


def write(project, name, rows):
    with (project.root / name).open("w", newline="") as file:
        if name.endswith(".jsonl"):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)


def test_questions_hold_every_validation_and_test_text_and_no_label(asked):
    project, rows = asked
    sizes = project.result(project.run_folders[0])["data"]["rows"]
    assert len(rows) == sizes["val"] + sizes["test"]
    assert set(rows[0]) == {"split", "row_id", "text"}


def test_a_files_answers_are_judged_as_a_runs_own_whatever_says_which_row_they_are_for(asked):
    project, rows = asked
    ours = answers_of(project)
    full = [row | {"prediction": ours[row["split"], row["row_id"]]} for row in rows]
    scores = project.result(project.run_folders[0])["metrics"]
    for name, keys in (("a.csv", ["split", "row_id"]), ("b.jsonl", ["split", "row_id"]), ("c.tsv", ["text"])):
        write(project, name, [{key: row[key] for key in [*keys, "prediction"]} for row in reversed(full)])
        done = project.agnews("evaluate", name, f"name=rival-{name[0]}", "tracking=none", "--like", "ours")
        assert done.returncode == 0, done.stderr
        assert f"{scores['val/macro_f1']:.4f}" in done.stdout
        assert f"{scores['test/macro_f1']:.4f}" in done.stdout
    top = project.agnews("top").stdout
    assert "rival-c" in top  # the three are one run, which goes by its latest name
    assert "rival-a" not in top
    compared = project.agnews("compare", "rival-a", "ours", "--resamples", "200")
    assert "rival-c and ours" in " ".join(compared.stdout.split()), compared.stderr
    refused = project.agnews("errors", "rival-a")
    assert refused.returncode == 2
    assert "has answers and no model" in refused.stderr


def test_answers_that_are_wrong_are_refused_with_what_is_missing(asked):
    project, rows = asked
    full = [row | {"prediction": "World"} for row in rows]
    for number, (content, message) in enumerate(
        (
            (full[1:], "has no answer for 1 of"),
            ([*full, full[0] | {"prediction": "Sports"}], "contradicts an earlier one"),
            ([row | {"prediction": "world news"} for row in full], "Unknown class in the answers"),
            (rows, "no column 'prediction'"),
            ([{"prediction": "World"}], "does not say which row"),
        )
    ):
        write(project, f"wrong{number}.csv", content)
        done = project.agnews("evaluate", f"wrong{number}.csv", "tracking=none")
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    for words in (["nothing.csv"], [], ["a.csv", "b.csv"]):
        assert project.agnews("evaluate", *words).returncode == 2

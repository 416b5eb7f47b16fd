"""Where a run's model errs, on validation and test rows: classes, kinds of text, labels, duplicates, slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.analyses.errors import attributes as kinds
from agnews_exp.analyses.errors import near_duplicates as near
from agnews_exp.analyses.errors import slices as slicing
from agnews_exp.analyses.errors import tables as figures
from agnews_exp.analyses.errors import tables as tables
from agnews_exp.analyses.errors.confusions import (
    contrasts,
    directed_confusions,
    find_label_noise,
    hardest_rows,
    item_losses,
    rate,
    rates_by_group,
    true_class_margins,
    undirected_confusions,
)
from agnews_exp.analyses.errors.near_duplicates import duplicate_effect
from agnews_exp.analyses.errors.tables import cached_near_duplicates
from agnews_exp.core.errors import DataError, MissingDependencyError
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.calibrators import CALIBRATORS
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import confusion_matrix
from agnews_exp.evaluation.score_calibration import score_source, scores_for_calibration


def analyse(
    context: AnalysisContext,
    *,
    n_hardest: Annotated[int, Field(ge=0)] = 30,
    n_length_bins: Annotated[int, Field(ge=1, le=50)] = 5,
    min_group_rows: Annotated[int, Field(ge=1)] = 30,
    slices: bool = True,
    slice_pairs: bool = True,
    slice_min_rows: Annotated[int, Field(ge=5)] = 50,
    slice_max_q: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    label_noise: bool = True,
    near_duplicates: bool = True,
    similarity: Annotated[float, Field(ge=0.1, le=1)] = 0.5,
    shingle_words: Annotated[int, Field(ge=1, le=10)] = 3,
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128,
    resamples: Annotated[int, Field(ge=100)] = 2000,
    texts: bool = True,
) -> Findings:
    """Analyse a run's errors.

    Args:
        context: The run.
        n_hardest: Test rows with the lowest margin to list.
        n_length_bins: Bins of about equally many test rows by number of words.
        min_group_rows: Sources that fewer test rows name are counted together.
        slices: Search for groups of rows with too many errors.
        slice_pairs: Try pairs of features too.
        slice_min_rows: Validation rows that a slice must have.
        slice_max_q: Bound on the expected share of false findings among the slices found.
        label_noise: List rows whose label is probably wrong (cleanlab).
        near_duplicates: Find near-duplicates (datasketch), not only texts with the same words.
        similarity: Jaccard similarity of word shingles from which on two texts are near-duplicates.
        shingle_words: Words of a shingle.
        permutations: Length of the MinHash signatures.
        resamples: Bootstrap resamples of metrics with and without near-duplicates.
        texts: Write texts into the files; false for a record that goes where the corpus may not.

    Returns:
        ``test/errors``, ``test/near_duplicate_rows``, ``test/macro_f1_without_near_duplicates``,
        ``test/label_noise_share``, ``test/slices_found``, ``test/slices_confirmed`` and their like.
    """
    out = _Report(context, texts)
    _confusions(out)
    _groups(out, n_length_bins, min_group_rows)
    _hardest(out, n_hardest)
    if label_noise:
        _label_noise(out)
    settings = {"threshold": similarity, "shingle_words": shingle_words, "permutations": permutations}
    _duplicates(out, near_duplicates, settings, resamples)
    if slices:
        _slices(out, n_length_bins, slice_pairs, slice_min_rows, slice_max_q)
    if out.notes:
        out.sections.append("\n".join(f"- {note}" for note in out.notes))
    return Findings(out.metrics, "\n\n".join(out.sections), plain(out.details))


@dataclass
class _Report:
    """What is collected while the parts are done."""

    context: AnalysisContext
    texts: bool
    metrics: dict[str, float] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.context.splits.class_names
        self.rows: dict[str, TextRows] = {"val": self.context.splits.validation, "test": self.context.splits.test}
        self.wrong = {split: self.context.answers[split].labels != rows.labels for split, rows in self.rows.items()}

    def file(self, name: str) -> Path:
        return self.context.folder / name

    def describe(self, split: str, position: int) -> dict[str, Any]:
        """Return what identifies a row of a CSV file, its text at the end by :meth:`with_text`."""
        rows, predicted = self.rows[split], self.context.answers[split].labels
        return {
            "split": split,
            "row_id": int(rows.row_ids[position]),
            "label": self.names[int(rows.labels[position])],
            "prediction": self.names[int(predicted[position])],
        }

    def text(self, rows: TextRows, position: int, key: str = "text") -> dict[str, str]:
        return {key: rows.texts[position]} if self.texts else {}


def _confusions(out: _Report) -> None:
    test, answer = out.rows["test"], out.context.answers["test"]
    matrix = confusion_matrix(test.labels, answer.labels, len(out.names))
    overall = rate("all", int(out.wrong["test"].sum()), len(test))
    directed, undirected = directed_confusions(matrix, out.names), undirected_confusions(matrix, out.names)
    out.metrics["test/errors"] = float(overall.count)
    out.details |= {"overall": overall, "directed": directed, "undirected": undirected}
    out.sections.append(tables.confusions_markdown(overall, directed, undirected))


def _groups(out: _Report, n_length_bins: int, min_rows: int) -> None:
    test, wrong = out.rows["test"], out.wrong["test"]
    counts = kinds.word_counts(test.texts)
    bins, bin_names = kinds.length_bins(counts, kinds.length_edges(counts, n_length_bins))
    sources, source_names = kinds.agencies(test.texts, min_rows)
    found = contrasts(wrong, kinds.artefacts(test.texts))
    groups = {
        "length": rates_by_group(wrong, bins, bin_names),
        "source": rates_by_group(wrong, sources, source_names),
    }
    out.details |= {"by_length": groups["length"], "by_source": groups["source"], "by_artefact": found}
    out.sections.append(tables.groups_markdown(groups, found))
    panels = groups | {"artefact": tuple(tables.renamed(c.inside, c.name) for c in found)}
    figures.draw_rates(out.file("error_rates.png"), panels, out.details["overall"])


def _hardest(out: _Report, n: int) -> None:
    test, answer = out.rows["test"], out.context.answers["test"]
    positions = hardest_rows(test.labels, answer, n)
    margins, losses = true_class_margins(test.labels, answer), item_losses(test.labels, answer)
    listed = []
    for i in map(int, positions):
        row = out.describe("test", i)
        row |= {"margin": None if margins is None else float(margins[i])}
        row |= {"loss": None if losses is None else float(losses[i])}
        listed.append(row | out.text(test, i))
    if listed:
        tables.write_csv(out.file("hardest.csv"), listed)
        out.sections.append(tables.hardest_markdown(listed))
    out.details["hardest"] = [{k: v for k, v in row.items() if k != "text"} for row in listed]


def _label_noise(out: _Report) -> None:
    try:
        source = score_source(out.context.answers["val"])
        scores = {split: scores_for_calibration(answer, source) for split, answer in out.context.answers.items()}
        # One parameter, so that the validation rows' own labels hardly bear on their probabilities.
        temperature = CALIBRATORS["temperature"]().fit(scores["val"], out.rows["val"].labels)
        found = {
            split: find_label_noise(rows.labels, temperature.predict_proba(scores[split]))
            for split, rows in out.rows.items()
        }
    except (MissingDependencyError, DataError) as error:
        out.notes.append(str(error).replace("\n  fix:", " To have them:"))
        return
    listed = []
    for split, noise in found.items():
        out.metrics[f"{split}/label_noise_share"] = noise.share
        for i, confidence in zip(noise.rows.tolist(), noise.self_confidence.tolist(), strict=True):
            listed.append(out.describe(split, i) | {"label_probability": confidence} | out.text(out.rows[split], i))
    if listed:
        tables.write_csv(out.file("label_noise.csv"), listed)
    out.sections.append(tables.noise_markdown(found, out.rows, listed))
    out.details["label_noise"] = {
        split: {"row_ids": out.rows[split].row_ids[noise.rows], "share": noise.share} for split, noise in found.items()
    }


def _duplicates(out: _Report, wanted: bool, settings: dict[str, Any], resamples: int) -> None:
    splits = out.context.splits
    parts = {"train": splits.train, "val": splits.validation, "test": splits.test}
    every = [text for rows in parts.values() for text in rows.texts]
    ends = np.cumsum([len(rows) for rows in parts.values()]).tolist()
    places = {name: slice(end - len(rows), end) for (name, rows), end in zip(parts.items(), ends, strict=True)}
    exact = near.exact_duplicates(every)
    counts = {"same words": near.count_across(exact, places)}
    found = exact
    if wanted:
        try:
            found = cached_near_duplicates(Path(out.context.checked.run.paths.cache_dir), every, settings)
            counts["near-duplicates"] = near.count_across(found, places)
        except MissingDependencyError as error:
            out.notes.append(str(error).replace("\n  fix:", " To have them:"))
    effects, listed = {}, []
    for split, rows in out.rows.items():
        matches = near.best_matches(found, places[split], places["train"])
        predicted = out.context.answers[split].labels
        effects[split] = duplicate_effect(
            rows.labels, predicted, splits.train.labels, matches, out.names,
            resamples=resamples, seed=out.context.checked.run.split_seed,
        )  # fmt: skip
        out.metrics[f"{split}/near_duplicate_rows"] = float(effects[split].n_near)
        for i in np.flatnonzero(matches.found).tolist():
            at = int(matches.position[i])
            row = out.describe(split, i) | {"similarity": float(matches.similarity[i])}
            row |= {"train_row_id": int(splits.train.row_ids[at])}
            row |= {"train_label": out.names[int(splits.train.labels[at])]}
            listed.append(row | out.text(rows, i) | out.text(splits.train, at, "train_text"))
    if without := effects["test"].without:
        out.metrics |= {f"test/{m}_without_near_duplicates": value.estimate for m, value in without.items()}
    if listed:
        listed.sort(key=lambda row: (row["split"], row["label"] == row["train_label"], -row["similarity"]))
        tables.write_csv(out.file("near_duplicates.csv"), listed)
    out.sections.append(tables.duplicates_markdown(counts, effects, settings))
    out.details["duplicates"] = {"rows": counts, "effect": effects}


def _slices(out: _Report, n_length_bins: int, pairs: bool, min_rows: int, max_q: float) -> None:
    edges = kinds.length_edges(kinds.word_counts(out.rows["val"].texts), n_length_bins)
    words = slicing.frequent_words(out.rows["val"].texts, min_rows)
    features = {}
    for split, rows in out.rows.items():
        bins, bin_names = kinds.length_bins(kinds.word_counts(rows.texts), edges)
        sources = np.array([kinds.agency(text) for text in rows.texts])
        predicted = out.context.answers[split].labels
        attributes = {
            "predicted": {f"predicted: {name}": predicted == k for k, name in enumerate(out.names)},
            "length": {name: bins == i for i, name in enumerate(bin_names)},
            "source": {f"source: {n}": sources == n for n in (*kinds.AGENCIES, kinds.NO_AGENCY)},
            "artefact": {
                f"has: {n}" if n != "any" else "has: any artefact": v for n, v in kinds.artefacts(rows.texts).items()
            },
        }
        features[split] = slicing.make_features(rows.texts, attributes, words)
    found = slicing.find_slices(
        features["val"], out.wrong["val"], features["test"], out.wrong["test"],
        min_rows=min_rows, max_q=max_q, pairs=pairs,
    )  # fmt: skip
    confirmed = [s for s in found.slices if s.q_confirmed <= max_q]
    out.metrics |= {"val/slices_found": float(len(found.slices)), "test/slices_confirmed": float(len(confirmed))}
    out.details["slices"] = found
    if found.slices:
        tables.write_csv(out.file("slices.csv"), tables.slice_rows(found))
        figures.draw_slices(out.file("slices.png"), found)
    out.sections.append(tables.slices_markdown(found, max_q))

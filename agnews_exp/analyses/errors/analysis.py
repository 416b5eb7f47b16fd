"""Where a run's model errs, on validation and test rows: classes, kinds of text, labels, duplicates, slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.errors import attributes as kinds
from agnews_exp.analyses.errors import near_duplicates as near
from agnews_exp.analyses.errors import slices as slicing
from agnews_exp.analyses.errors.confusions import (
    Confusion,
    LabelNoise,
    Rate,
    confusions,
    contrasts,
    find_label_noise,
    hardest_rows,
    item_losses,
    rate,
    rates_by_group,
    true_class_margins,
)
from agnews_exp.analyses.findings import Block, Cell, Column, Findings, Number, Table, Text
from agnews_exp.analyses.performing import AnalysisContext, analysis
from agnews_exp.core.errors import AgnewsError, DataError, MissingDependencyError
from agnews_exp.core.numbers import format_interval
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.csv_files import column_values
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.calibrators import CALIBRATORS
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import confusion_matrix, count_metric, margins_of
from agnews_exp.evaluation.score_calibration import score_source, scores_for_calibration
from agnews_exp.evaluation.statistics.bootstrap import BootstrapInterval
from agnews_exp.evaluation.statistics.effect_size import metric_interval

WILSON = "95 % Wilson interval."
_SHOWN, _WIDTH = 10, 90


@analysis("errors", title="Where it errs")
def analyse(
    context: AnalysisContext,
    *,
    n_hardest: Annotated[int, Field(ge=0)] = 30,
    n_length_bins: Annotated[int, Field(ge=1, le=50)] = 5,
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

    Returns:
        ``test/errors``, ``test/near_duplicate_rows``, ``test/macro_f1_without_near_duplicates``,
        ``test/label_noise_share``, ``test/macro_f1_clean``, ``test/slices_found``, ``test/slices_confirmed``
        and their like.
    """
    found = _Found(context, texts)
    headline = _confusions(found)
    _groups(found, n_length_bins)
    _hardest(found, n_hardest)
    if label_noise:
        _label_noise(found, resamples)
    settings = {"threshold": similarity, "shingle_words": shingle_words, "permutations": permutations}
    _duplicates(found, near_duplicates, settings, resamples)
    if slices:
        _slices(found, n_length_bins, slice_pairs, slice_min_rows, slice_max_q)
    return Findings(headline, (*found.blocks, *map(Text, found.notes)), found.metrics, plain(found.details))


@dataclass
class _Found:
    """The run, and what has been found so far."""

    context: AnalysisContext
    texts: bool
    blocks: list[Block] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.context.splits.class_names
        self.rows: dict[str, TextRows] = {"test": self.context.splits.test, "val": self.context.splits.validation}
        self.wrong = {split: self.context.answers[split].labels != rows.labels for split, rows in self.rows.items()}

    def described(self, split: str, position: int) -> tuple[Cell, ...]:
        """Return the cells of :data:`_ROW` for a row."""
        rows, predicted = self.rows[split], self.context.answers[split].labels
        label, given = self.names[int(rows.labels[position])], self.names[int(predicted[position])]
        return (split, int(rows.row_ids[position]), label, given)

    def text_columns(self, *names: str) -> tuple[Column, ...]:
        """Return columns of texts, none where texts stay out of the files."""
        return tuple(Column(name, width=_WIDTH) for name in names) if self.texts else ()

    def text_cells(self, *texts: str) -> tuple[str, ...]:
        """Return the cells of :meth:`text_columns`."""
        return texts if self.texts else ()

    def lacks(self, error: AgnewsError) -> None:
        """Note what could not be done, and what to install."""
        self.notes.append(str(error).replace("\n  fix:", " To have them:"))


_ROW: tuple[Column | str, ...] = ("split", Column("row_id", "id"), "label", "prediction")


def _share(value: Rate) -> Number:
    return Number(value.rate, "share", value.low, value.high)


def _said(value: Rate) -> str:
    return format_interval(value.rate, value.low, value.high, "share")


def _confusions(found: _Found) -> str:
    """Add the confused classes; return the headline."""
    test, answer = found.rows["test"], found.context.answers["test"]
    matrix = confusion_matrix(test.labels, answer.labels, len(found.names))
    overall = rate("all", int(found.wrong["test"].sum()), len(test))
    directed, undirected = (confusions(matrix, found.names, directed=way) for way in (True, False))
    found.metrics["test/errors"] = float(overall.count)
    found.details |= {"overall": overall, "directed": directed, "undirected": undirected}

    def table(name: str, title: str, of: str, pairs: Iterable[Confusion]) -> Table:
        columns = ("classes", "errors", Column("of all errors", "share"), of)
        rows = tuple((p.of_rows.name, p.of_rows.count, p.share_of_errors, _share(p.of_rows)) for p in pairs)
        return Table(name, title, columns, rows, note=WILSON, shown=_SHOWN)

    found.blocks += [
        table("confusions", "Confusions on test: true class -> class given", "of the true class", directed),
        table("confused_pairs", "Classes taken for each other on test", "of both classes", undirected),
    ]
    headline = f"{overall.count:,} of {overall.total:,} test rows are wrong ({_said(overall)})"
    worst = f", most often {undirected[0].of_rows.name}: {undirected[0].of_rows.count:,}" if undirected else ""
    return f"{headline}{worst}."


def _groups(found: _Found, n_length_bins: int) -> None:
    test, wrong = found.rows["test"], found.wrong["test"]
    counts = kinds.word_counts(test.texts)
    bins, bin_names = kinds.length_bins(counts, kinds.length_edges(counts, n_length_bins))
    by_length, by_artefact = rates_by_group(wrong, bins, bin_names), contrasts(wrong, kinds.artefacts(test.texts))
    found.details |= {"by_length": by_length, "by_artefact": by_artefact}
    panels = {"length": by_length}
    found.blocks += [
        Table(
            f"by_{title.split()[0]}", f"Error rate by {title}", (title, "rows", "errors", "error rate"),
            tuple((r.name, r.total, r.count, _share(r)) for r in rates),
        )
        for title, rates in panels.items()
    ]  # fmt: skip
    if by_artefact:
        columns = ("artefact", "rows with it", "error rate", "of the others", Column("p (Fisher)", "p"))
        rows = tuple((c.name, c.inside.total, _share(c.inside), _share(c.outside), c.p_value) for c in by_artefact)
        note = "p-values are not adjusted for the number of rows of the table."
        found.blocks.append(Table("by_artefact", "Error rate by what feeds leave in texts", columns, rows, note=note))
        panels["artefact"] = tuple(c.inside for c in by_artefact)
    found.blocks.append(_rate_chart(panels, found.details["overall"]))


def _rate_chart(panels: Mapping[str, Sequence[Rate]], overall: Rate) -> Chart:
    series = tuple(
        _series("error rate", rates, panel=panel, names=[f"{r.name} (n = {r.total:,})" for r in rates])
        for panel, rates in panels.items()
    )
    return Chart(
        "error_rates", "Error rate by kind of text", "dots", "error rate on test", "", series,
        intervals=f"{WILSON} Dashed: all test rows.", references=(("x", overall.rate, ""),), columns=1, x_form="share",
    )  # fmt: skip


def _series(label: str, rates: Sequence[Rate], *, names: Sequence[str], panel: str = "") -> Series:
    return Series(
        label, tuple(r.rate for r in rates), tuple(names), tuple(r.low for r in rates), tuple(r.high for r in rates),
        tuple(f"{name}: {r.count:,} of {r.total:,} ({_said(r)})" for name, r in zip(names, rates, strict=True)),
        panel=panel,
    )  # fmt: skip


def _hardest(found: _Found, n: int) -> None:
    test, answer = found.rows["test"], found.context.answers["test"]
    margins, losses = true_class_margins(test.labels, answer), item_losses(test.labels, answer)
    listed = []
    for i in map(int, hardest_rows(test.labels, answer, n)):
        margin, loss = (None if values is None else float(values[i]) for values in (margins, losses))
        listed.append((*found.described("test", i), margin, loss, *found.text_cells(test.texts[i])))
    keys = ("split", "row_id", "label", "prediction", "margin", "loss")
    found.details["hardest"] = [dict(zip(keys, row, strict=False)) for row in listed]
    if listed:
        columns = (*_ROW, Column("margin", ".2f"), Column("loss", ".3f"), *found.text_columns("text"))
        note = "Margin: score of the labelled class minus the best other one. Loss: minus the log of its probability."
        found.blocks.append(Table("hardest", "Hardest rows", columns, tuple(listed), note=note, shown=_SHOWN))


def _label_noise(found: _Found, resamples: int) -> None:
    try:
        source = score_source(found.context.answers["val"])
        scores = {split: scores_for_calibration(answer, source) for split, answer in found.context.answers.items()}
        # One parameter, so that the validation rows' own labels hardly bear on their probabilities.
        temperature = CALIBRATORS["temperature"]().fit(scores["val"], found.rows["val"].labels)
        doubtful = {
            split: find_label_noise(rows.labels, temperature.predict_proba(scores[split]))
            for split, rows in found.rows.items()
        }
    except (MissingDependencyError, DataError) as error:
        found.lacks(error)
        return
    listed = []
    for split, noise in doubtful.items():
        found.metrics[f"{split}/label_noise_share"] = noise.share
        for i, confidence in zip(noise.rows.tolist(), noise.self_confidence.tolist(), strict=True):
            listed.append((*found.described(split, i), confidence, *found.text_cells(found.rows[split].texts[i])))
    found.details["label_noise"] = {
        split: {"row_ids": found.rows[split].row_ids[noise.rows], "share": noise.share}
        for split, noise in doubtful.items()
    }
    counts = "; ".join(
        f"{split}: {len(noise.rows):,} of {len(found.rows[split]):,} rows ({noise.share:.1%})"
        for split, noise in doubtful.items()
    )
    note = (
        f"Confident learning (cleanlab) on probabilities of rows that the model was not fitted on: {counts}. They are "
        "candidates to read, not errors proven: a model that is wrong with confidence makes them too."
    )
    columns = (*_ROW, Column("label_probability", ".3f"), *found.text_columns("text"))
    title = "Labels that are probably wrong"
    found.blocks.append(Table("label_noise", title, columns, tuple(listed), note=note, shown=_SHOWN))
    found.blocks.append(_scores_on_clean_rows(found, doubtful, resamples))


def _scores_on_clean_rows(found: _Found, doubtful: Mapping[str, LabelNoise], resamples: int) -> Table:
    """Return scores on all rows and on those whose labels are not in doubt, and the best that noise leaves."""
    cells: list[tuple[Cell, ...]] = []
    for split, noise in doubtful.items():
        labels, given = found.rows[split].labels, found.context.answers[split].labels
        kept = np.delete(np.arange(len(labels)), noise.rows)
        for metric in ("accuracy", "macro_f1") if len(kept) else ():
            numbers = []
            for rows in (np.arange(len(labels)), kept):
                value = float(
                    count_metric(metric, found.names)(margins_of(labels[rows], given[rows], len(found.names)))
                )
                ends = metric_interval(labels[rows], given[rows], metric, found.names, resamples=resamples)
                numbers.append(Number(value, "metric", *ends))
            found.metrics[f"{split}/{metric}_clean"] = float(numbers[1].value or 0.0)
            best = Number(1 - noise.share, "metric") if metric == "accuracy" else None
            cells.append((split, metric, numbers[0], len(kept), numbers[1], best))
    note = (
        "Rows in doubt are those that this model contradicts, so the score on the others flatters it. Best "
        "possible: accuracy that a model without an error would be given, if all rows in doubt are labelled wrong. "
        "95 % intervals: Wilson's for accuracy, else bootstrap."
    )
    columns = ("split", "metric", "all rows", "rows not in doubt", "on these", "best possible")
    return Table("clean_scores", "Scores without doubtful labels", columns, tuple(cells), note=note)


def _duplicates(found: _Found, wanted: bool, settings: dict[str, Any], resamples: int) -> None:
    splits = found.context.splits
    parts = {"train": splits.train, "val": splits.validation, "test": splits.test}
    every, places = near.joined(parts)
    pairs = near.exact_duplicates(every)
    counts = {"same words": near.count_across(pairs, places)}
    if wanted:
        try:
            pairs = near.cached_near_duplicates(Path(found.context.checked.run.paths.cache_dir), every, settings)
            counts["near-duplicates"] = near.count_across(pairs, places)
        except MissingDependencyError as error:
            found.lacks(error)
    effects, listed = {}, []
    for split in ("val", "test"):
        rows = found.rows[split]
        matches = near.best_matches(pairs, places[split], places["train"])
        groups = near.component_numbers(pairs)[places[split]]
        effects[split] = near.duplicate_effect(
            rows.labels, found.context.answers[split].labels, splits.train.labels, matches, found.names, groups,
            resamples=resamples, seed=found.context.checked.run.split_seed,
        )  # fmt: skip
        found.metrics[f"{split}/near_duplicate_rows"] = float(effects[split].n_near)
        for i in np.flatnonzero(matches.found).tolist():
            at, alike = int(matches.position[i]), float(matches.similarity[i])
            theirs = (alike, int(splits.train.row_ids[at]), found.names[int(splits.train.labels[at])])
            same_label = bool(rows.labels[i] == splits.train.labels[at])
            cells = (*found.described(split, i), *theirs, *found.text_cells(rows.texts[i], splits.train.texts[at]))
            listed.append(((split, same_label, -alike), cells))
    listed.sort(key=lambda entry: entry[0])
    if without := effects["test"].without:
        found.metrics |= {f"test/{m}_without_near_duplicates": value.estimate for m, value in without.items()}
    found.details["duplicates"] = {"rows": counts, "effect": effects}
    train: tuple[Column | str, ...] = (Column("similarity", ".3g"), Column("train_row_id", "id"), "train_label")
    columns = (*_ROW, *train, *found.text_columns("text", "train_text"))
    found.blocks += [_duplicate_metrics(effects, settings)]
    found.blocks += [sentence for split, effect in effects.items() for sentence in _duplicate_errors(split, effect)]
    if listed:
        title = "Rows with a near-duplicate in train, other labels first"
        found.blocks.append(Table("near_duplicates", title, columns, tuple(c for _, c in listed), shown=_SHOWN))


def _duplicate_metrics(effects: Mapping[str, near.DuplicateEffect], settings: Mapping[str, Any]) -> Table:
    def cell(value: BootstrapInterval | None) -> Number | None:
        return None if value is None else Number(value.estimate, "metric", *value.percentile)

    rows = []
    for split, effect in effects.items():
        for metric, value in effect.all_rows.items():
            other = effect.without[metric] if effect.without else None
            moved = None if other is None else Number(other.estimate - value.estimate, "change")
            grouped = effect.in_groups[metric] if effect.in_groups else None
            rows.append((split, metric, cell(value), cell(grouped), cell(other), moved))
    columns = ("split", "metric", "all rows", "near-duplicates drawn together", "without near-duplicates of train",
               "change")  # fmt: skip
    note = (
        f"Near-duplicates: Jaccard similarity of sequences of {settings['shingle_words']} words of "
        f"{settings['threshold']:g} or more, the same words included (`agnews eda` counts them in and across all "
        "splits). 95 % bootstrap intervals, over rows and over groups of rows that near-duplicates link."
    )
    return Table("duplicates_metrics", "Metrics without near-duplicates of train", columns, tuple(rows), note=note)


def _duplicate_errors(split: str, effect: near.DuplicateEffect) -> list[Text]:
    sentences = []
    if (errors := effect.errors) is not None:
        sentences.append(
            f"Error rate of {split} rows with a near-duplicate in train: {_said(errors.inside)}, without one: "
            f"{_said(errors.outside)} (Fisher p {Number(errors.p_value, 'p')})."
        )
    if (conflicts := effect.conflicts) is not None and conflicts.count:
        follows = (
            f" To {effect.follows_train.count} of these the model gives train's label." if effect.follows_train else ""
        )
        sentences.append(
            f"{conflicts.count} of {conflicts.total} ({_said(conflicts)}) bear another label than their near-duplicate "
            f"in train: one of the two is wrong, both fit, or only boilerplate is alike.{follows}"
        )
    return [Text(sentence) for sentence in sentences]


def _slices(found: _Found, n_length_bins: int, pairs: bool, min_rows: int, max_q: float) -> None:
    edges = kinds.length_edges(kinds.word_counts(found.rows["val"].texts), n_length_bins)
    words = slicing.frequent_words(found.rows["val"].texts, min_rows)
    named = found.context.checked.run.evaluation.slices
    data = found.context.checked.plain["data"]
    values = column_values(data, found.rows, named, "evaluation.slices") if named else {}
    own = {column: {k: np.array(v) for k, v in by_split.items()} for column, by_split in values.items()}
    features = {}
    for split, rows in found.rows.items():
        bins, bin_names = kinds.length_bins(kinds.word_counts(rows.texts), edges)
        predicted = found.context.answers[split].labels
        attributes = {
            "predicted": {f"predicted: {name}": predicted == k for k, name in enumerate(found.names)},
            "length": {name: bins == i for i, name in enumerate(bin_names)},
            "artefact": {
                f"has: {n}" if n != "any" else "has: any artefact": v for n, v in kinds.artefacts(rows.texts).items()
            },
        }
        attributes |= {
            column: {f"{column}: {value}": by_split[split] == value for value in np.unique(by_split["val"]).tolist()}
            for column, by_split in own.items()
        }
        features[split] = slicing.make_features(rows.texts, attributes, words)
    search = slicing.find_slices(
        features["val"], found.wrong["val"], features["test"], found.wrong["test"],
        min_rows=min_rows, max_q=max_q, pairs=pairs,
    )  # fmt: skip
    n_confirmed = sum(s.q_confirmed <= max_q for s in search.slices)
    found.metrics |= {"val/slices_found": float(len(search.slices)), "test/slices_confirmed": float(n_confirmed)}
    found.details["slices"] = search
    said = (
        f"{search.n_tested:,} slices of validation rows tested (words, length, artefact, predicted class, columns of "
        f"evaluation.slices, and pairs of them). Too many errors at a false discovery rate of {max_q:g}: "
        f"{search.n_significant:,}; {len(search.slices):,} without those that mostly repeat a stronger one. "
        f"Of these the test rows confirm {n_confirmed:,} (q <= {max_q:g} over these). Believe the test "
        f"column: slices were chosen for their validation errors. All rows: "
        f"{_said(search.overall)} validation, {_said(search.overall_confirming)} test."
    )
    found.blocks.append(Text(said, "Slices with too many errors"))
    if search.slices:
        found.blocks += [_slice_table(search, max_q), _slice_chart(search)]


def _slice_table(search: slicing.SliceSearch, max_q: float) -> Table:
    columns = (
        "slice", "val rows", "val errors", "val error rate", Column("val p", "p"), Column("val q", "p"),
        "test rows", "test errors", "test error rate", Column("test p", "p"), Column("test q", "p"), "confirmed",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for s in search.slices:
        other = s.confirmed
        test = (other.total, other.count, _share(other)) if other else (0, 0, None)
        found = (s.found.name, s.found.total, s.found.count, _share(s.found), s.p_found, s.q_found)
        rows.append((*found, *test, s.p_confirmed, s.q_confirmed, s.q_confirmed <= max_q))
    return Table("slices", "", columns, tuple(rows), note=WILSON, shown=2 * _SHOWN)


def _slice_chart(search: slicing.SliceSearch) -> Chart:
    shown = search.slices[: 2 * _SHOWN]
    both = [s for s in shown if s.confirmed]
    confirmed = [s.confirmed for s in both if s.confirmed]
    series = (
        _series("found: validation", [s.found for s in shown], names=[s.found.name for s in shown]),
        _series("confirming: test", confirmed, names=[s.found.name for s in both]),
    )
    overall = search.overall_confirming.rate
    return Chart(
        "slices_chart", "Slices with too many errors", "dots", "error rate", "", series,
        intervals=f"{WILSON} Dashed: all test rows.", references=(("x", overall, ""),), x_form="share",
    )  # fmt: skip

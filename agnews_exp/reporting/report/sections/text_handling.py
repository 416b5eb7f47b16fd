"""Ways of cleaning and cutting up texts, where runs differ in them."""

from __future__ import annotations

from agnews_exp.reporting.report.content import Block, Missing, Table, number, text
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import origin
from agnews_exp.reporting.report.systems import System

_KEYS = (("clean", "Cleaning strategies", ("T08",)), ("tokenizer", "Tokenisers", ("T09",)))


def text_handling(inputs: Inputs) -> list[Block]:
    """Return one table a setting that differs between runs of one model, features and share of the rows."""
    blocks: list[Block] = []
    for key, title, covers in _KEYS:
        arms = _arms(inputs, f"features.{key}")
        if len(arms) < 2:
            said = f"{title}: all runs of a model have the same one."
            blocks.append(Missing(said, "python run.py -m experiment=feature_ablation"))
            continue
        rows = tuple(
            (
                text(value),
                text(system.first.model),
                number(system.mean("val/macro_f1")),
                number(system.mean("test/macro_f1")),
                number(system.first.timings.get("features"), ".2f"),
                number(system.first.fraction, "g"),
            )
            for value, system in arms.items()
        )
        header = (key, "model", "validation: macro-F1", "test: macro-F1", "features, s", "data fraction")
        made = origin([system.first for system in arms.values()], ("val", "test"))
        note = "The study printed such a table but trained on raw text only."
        blocks.append(Table(f"texts_{key}", title, header, rows, made, note, covers))
    return blocks


def _arms(inputs: Inputs, key: str) -> dict[str, System]:
    """Return the largest group of systems that differ in a setting, by its value."""
    groups: dict[tuple[str, str, float], dict[str, System]] = {}
    for system in inputs.systems:
        run = system.first
        if (value := run.config.get(key)) is not None:
            groups.setdefault((run.model, run.features, run.fraction), {}).setdefault(str(value), system)
    return max(groups.values(), key=len, default={})

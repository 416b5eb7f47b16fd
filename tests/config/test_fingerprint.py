"""A fingerprint changes with all that can change a result, and with nothing else."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from agnews_exp.config import fingerprint as fingerprints
from agnews_exp.config.compose import compose_config
from agnews_exp.config.fingerprint import component_fingerprint, fingerprint, group_fingerprint
from agnews_exp.config.validation import check_config, to_plain
from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.paths import config_folder

CANNOT_MATTER = {
    "name": "shown only",
    "tags": "shown only",
    "force": "whether to run again what has been run",
    "resume": "where to begin the same run",
    "reference": "results of others, shown beside the own ones",
    "sweep": "of the sweep as a whole",
    "paths": "where things lie",
    "tracking": "who is told",
    "logger": "who is told",
    "data": "the rows have a checksum of their own, which has parts but the sizes below",
    "trainer.name": "shown only",
    "trainer.n_jobs": "threads: time only",
    "trainer.accelerator": "same batches, same order; rounding aside",
    "trainer.devices": "likewise; the number of processes counts where there is dropout (test below)",
    "trainer.strategy": "likewise",
    "trainer.evaluation_batch_size": "time and memory only",
    "trainer.num_workers": "time only",
    "trainer.log_every_n_steps": "curves only",
    "trainer.checkpoint_every_n_steps": "what a kill costs",
    "trainer.checkpoint_every_seconds": "what a kill costs",
    "trainer.keep_checkpoints": "what is left on the disk",
    "trainer.deterministic": "which kernels: rounding",
    "trainer.benchmark": "which kernels: rounding",
    "trainer.detect_anomaly": "looks only",
    "trainer.profiler": "looks only",
    "trainer.progress_bar": "shown only",
    "model.price_per_million_tokens": "money",
    "evaluation.name": "shown only",
    "evaluation.latency_repeats": "a measurement beside the result",
    "evaluation.analyses": "have an identity of their own, and are completed where a run is reused",
}
"""Keys, and groups of keys, that leave a result as it is, with the reason: reviewed, not generated."""
BUT = {"data.validation_size", "data.test_size"}
ARGUMENTS = {
    *("n_jobs", "verbose", "verbosity", "cache_dir"),
    *("concurrency", "budget", "confirm", "api_key_env", "timeout_s", "retries"),  # of an endpoint
}
"""Arguments of components anywhere that leave a result as it is: threads, printing, places, money, patience."""


def of(*overrides: str, data: str = "abc") -> str:
    return fingerprint(to_plain(compose_config(["data=sample", *overrides])), data)


@functools.cache
def base() -> dict[str, Any]:
    plain = to_plain(compose_config(["data=sample", "model=distilbert", "data_fraction=0.5"]))
    return plain | {"subset_seed": 1}


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else name)
    elif isinstance(node, list) and any(isinstance(value, dict) for value in node):
        for number, value in enumerate(node):
            yield from leaves(value, f"{key}.{number}")
    else:
        yield key, node


def with_value(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The configuration with another value; only what lies on the way to it is copied."""
    name, _, rest = key.partition(".")
    if isinstance(plain, list):
        items = list(plain)
        items[int(name)] = with_value(items[int(name)], rest, value) if rest else value
        return items
    return plain | {name: with_value(plain[name], rest, value) if rest else value}


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return {"other": 1} if value == {} else [*value, "other"] if isinstance(value, list) else f"{value or ''}other"


def every_leaf() -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Configuration, key and value of every leaf of every choice of every group, each kind of leaf once."""
    seen = set()
    start = base()
    for path in [None, *sorted(config_folder().rglob("*.yaml"))]:
        plain = start
        if path is not None:
            *group, _ = path.relative_to(config_folder()).with_suffix("").parts
            if not group or group[0] in (
                "eda",
                "experiment",
                "hydra",
                "loss",
                "optimizer",
                "scheduler",
                "study",
                "tuning",
            ):  # keys of other groups, or none
                continue
            loaded = OmegaConf.load(path)
            loaded.pop("defaults", None)
            if group == ["model"] and "_target_" not in loaded:  # another choice with some values changed
                continue
            alone = OmegaConf.create(copy.deepcopy(start))
            key = {"model/members": "model.members", "evaluation/analyses": f"evaluation.analyses.{path.stem}"}.get(
                "/".join(group), ".".join(group)
            )
            if group != ["model"] and len(group) == 1:
                loaded = OmegaConf.merge(alone.get(key) or {}, loaded)
            OmegaConf.update(alone, key, loaded, merge=False, force_add=True)
            plain = to_plain(alone)
        targets: dict[str, Any] = {}
        for key, value in leaves(plain):
            parent, _, name = key.rpartition(".")
            if name == "_target_":
                targets[parent] = value
        for key, value in leaves(plain):
            kind = (key, targets.get(key.rpartition(".")[0]))
            if kind not in seen:
                seen.add(kind)
                yield plain, key, value


def cannot_matter(key: str) -> bool:
    if key in BUT:
        return False
    parts = key.split(".")
    return parts[-1] in ARGUMENTS or any(".".join(parts[:n]) in CANNOT_MATTER for n in range(1, len(parts) + 1))


def test_every_key_of_every_group_is_part_of_the_identity_or_reviewed():
    n, wrong = 0, []
    for plain, key, value in every_leaf():
        changed = fingerprint(with_value(plain, key, other(value)), "abc") != fingerprint(plain, "abc")
        if changed is cannot_matter(key):
            wrong.append((key, value))
        n += 1
    assert not wrong
    assert n > 500


def test_the_content_of_every_file_that_a_key_names_is_part_of_the_identity(tmp_path):
    file, folder = tmp_path / "vectors", tmp_path / "model"
    names_files = re.compile(r"(^|[._])(path|file|dir|folder)$")
    found = set()
    folder.mkdir()
    for plain, key, _ in every_leaf():
        if names_files.search(key) and not cannot_matter(key):
            for place, within in ((file, file), (folder, folder / "weights")):
                within.write_text("one")
                changed = with_value(plain, key, str(place))
                before = fingerprint(changed, "abc")
                within.write_text("three")
                assert fingerprint(changed, "abc") != before, key
            found.add(key)
    assert {"features.embeddings_path", "features.blocks.embeddings.path", "model.pretrained_path"} <= found


def test_equal_content_elsewhere_is_the_same_run_and_a_name_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for place in ("a/v.txt", "w.txt"):
        (tmp_path / place).write_text("king 0.1")
    plain = to_plain(compose_config(["data=sample", "features=static_embeddings"]))
    one, two = (fingerprint(with_value(plain, "features.embeddings_path", p), "abc") for p in ("a/v.txt", "w.txt"))
    assert one == two
    before = of("features=word_tfidf")
    (tmp_path / "word_tfidf").write_text("a file of this name")
    assert of("features=word_tfidf") == before


def test_an_analysis_has_the_content_of_its_files_in_its_identity(tmp_path):
    file = tmp_path / "reviews.csv"
    component = {"_target_": "agnews_exp.analyses.external.analyse", "path": str(file), "resamples": 2}
    file.write_text("text,label\n")
    before = component_fingerprint(component)
    assert component_fingerprint(component) == before != component_fingerprint(component | {"resamples": 3})
    file.write_text("text,topic\n")
    assert component_fingerprint(component) != before


def test_a_file_that_has_not_changed_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "v.txt"
    file.write_text("king 0.1")
    plain = to_plain(compose_config(["data=sample", "features=static_embeddings", f"features.embeddings_path={file}"]))
    before = fingerprint(plain, "abc")
    monkeypatch.setattr("agnews_exp.core.files.sha256_of", lambda _: pytest.fail("read again"))
    assert fingerprint(plain, "abc") == before


def test_other_rows_and_another_version_change_it(monkeypatch):
    before = of()
    assert of(data="other") != before
    monkeypatch.setattr(fingerprints, "__version__", "99")
    assert of() != before


def test_other_source_of_the_same_rows_does_not_change_it(tmp_path):
    here = fingerprint(to_plain(compose_config(["data=ag_news", f"data.dir={tmp_path}"])), "abc")
    hub = fingerprint(to_plain(compose_config(["data=ag_news", "data.dir=null"])), "abc")
    assert here == hub


def checked_fingerprints(*words: str) -> tuple[str, str]:
    checked = check_config(compose_config(["data=sample", *words]))
    return fingerprint(checked.plain, "abc"), group_fingerprint(checked.plain, "abc", checked.seeded)


def test_what_was_validated_counts_and_not_how_it_was_typed():
    for one, same in (
        ("data_fraction=1", "data_fraction=1.0"),
        ("model.C=1", "model.C=1.0"),
        ("features.block_weights.word=2", "features.block_weights.word=2.0"),
        ("features.blocks.word.max_df=1.0", "features.blocks.word.max_df=1.00"),
    ):
        assert checked_fingerprints(one) == checked_fingerprints(same), one
    # One document, and all documents.
    assert checked_fingerprints("features.blocks.word.max_df=1") != checked_fingerprints(
        "features.blocks.word.max_df=1.0"
    )


def test_what_follows_the_seed_is_known_before_values_are_looked_at():
    one, two = checked_fingerprints("seed=1"), checked_fingerprints("seed=2")
    assert one[0] != two[0]
    assert one[1] == two[1]
    fixed = [checked_fingerprints(f"seed={seed}", "model.random_state=1") for seed in (1, 2)]
    assert fixed[0][1] == fixed[1][1] != one[1]
    assert checked_fingerprints("seed=1", "model.C=3")[1] != one[1]
    assert checked_fingerprints("seed=1", "data_fraction=0.5")[1] != one[1]


def groups(*overrides: str) -> set[str]:
    """The group fingerprints of two seeds."""
    return {checked_fingerprints(f"seed={seed}", *overrides)[1] for seed in (1, 42)}


def test_rows_drawn_by_the_seed_are_another_experiment_with_one_group_of_seeds():
    drawn, usual = groups("data_fraction=0.5", "subset_seed=seed"), groups("data_fraction=0.5")
    assert (len(drawn), len(usual)) == (1, 1)
    assert drawn != usual
    assert groups("data_fraction=0.5", "subset_seed=7") == groups("data_fraction=0.5", "subset_seed=8") == drawn
    assert groups("data_fraction=0.5", "subset_seed=${seed}") == drawn


def test_who_draws_does_not_count_when_all_rows_are_taken():
    assert of("subset_seed=seed") == of("subset_seed=7") == of()
    assert of("subset_seed=seed", "data_fraction=0.5") != of("data_fraction=0.5")
    assert of("subset_seed=42", "data_fraction=0.5") == of("data_fraction=0.5")


@pytest.mark.slow
def test_no_key_of_any_group_floods_its_error():
    messages = {}
    for number, (plain, key, _) in enumerate(every_leaf()):
        try:
            check_config(OmegaConf.create(with_value(plain, key, ("x" * 100_000, "x y\n" * 25_000)[number % 2])))
        except AgnewsError as error:
            messages[key] = len(str(error))
    assert len(messages) > 100
    assert max(messages.values()) < 25_000, max(messages, key=messages.get)

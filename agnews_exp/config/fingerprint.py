"""Fingerprints of runs: hashes of all that can change a result (configuration, rows, version of this package)."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp import __version__
from agnews_exp.config.targets import find_targets, is_own

_GROUPS = ("subset", "features", "model")
_NOT_SCIENCE = frozenset({"n_jobs", "verbose", "cache_dir"})
"""Argument names that change the time, never the result."""

_SEED_NAMES = frozenset({"seed", "random_state", "random_seed"})
_TRAINER_NOT_SCIENCE = frozenset(
    {
        "name",
        "n_jobs",
        "accelerator",
        "devices",
        "strategy",
        "evaluation_batch_size",
        "num_workers",
        "log_every_n_steps",
        "checkpoint_every_n_steps",
        "checkpoint_every_seconds",
        "keep_checkpoints",
        "deterministic",
        "benchmark",
        "detect_anomaly",
        "profiler",
        "progress_bar",
    }
)
_EVALUATION_NOT_SCIENCE = frozenset({"name", "latency_repeats", "analyses"})


def scientific_config(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config that can change a result (no paths, logging, devices, threads)."""
    science: dict[str, Any] = {group: _strip(plain[group]) for group in _GROUPS}
    science["data"] = {k: plain["data"].get(k) for k in ("validation_size", "test_size") if k in plain["data"]}
    if plain["model"]["family"] == "transformer":
        science["trainer"] = {k: v for k, v in plain["trainer"].items() if k not in _TRAINER_NOT_SCIENCE}
    science["evaluation"] = {k: v for k, v in plain["evaluation"].items() if k not in _EVALUATION_NOT_SCIENCE}
    for key, usual in (("score_test", True), ("metrics", [])):
        if science["evaluation"].get(key) == usual:
            del science["evaluation"][key]  # what is usual needs no mention; a run without the test is another
    science |= {k: plain[k] for k in ("seed", "split_seed", "data_fraction")}
    # All rows are the same rows, whoever draws them; the word `seed` stays, so that repetitions are known as such.
    if plain["data_fraction"] != 1 and plain["subset_seed"] not in (None, plain["split_seed"]):
        science["subset_seed"] = plain["subset_seed"]
    if own := _own_sources(plain):
        science["own_components"] = own
    return science


def _own_sources(plain: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums of the user's own modules that the components come from: another source, another run."""
    targets = [path for group in (*_GROUPS, "data") for _, path in find_targets(plain[group], group)]
    targets += plain["evaluation"].get("metrics", [])
    found = {str(path).rpartition(".")[0] for path in targets}
    files = {name: importlib.import_module(name).__file__ for name in sorted(found) if is_own(name)}
    return {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in files.items() if file}


def _strip(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _strip(v) for k, v in value.items() if k not in _NOT_SCIENCE}
    return [_strip(v) for v in value] if isinstance(value, list) else value


def group_fingerprint(plain: Mapping[str, Any], data_checksum: str) -> str:
    """Return the fingerprint without the seed: equal for repetitions that are averaged together.

    Args:
        plain: The resolved config.
        data_checksum: As for :func:`fingerprint`.
    """
    science = {k: v for k, v in scientific_config(plain).items() if k != "seed"}
    return _digest(_unseeded(science, plain["seed"]), data_checksum)


def _digest(science: Mapping[str, Any], data_checksum: str) -> str:
    content = {"config": science, "data": data_checksum, "version": __version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _unseeded(value: Any, seed: int) -> Any:
    """Return a configuration without the components' seeds that equal the run's; another fixed one stays."""
    if isinstance(value, Mapping):
        return {k: _unseeded(v, seed) for k, v in value.items() if not (k in _SEED_NAMES and v == seed)}
    return [_unseeded(v, seed) for v in value] if isinstance(value, list) else value


def fingerprint(plain: Mapping[str, Any], data_checksum: str) -> str:
    """Return 16 hex digits; equal for runs that must give the same result.

    Args:
        plain: The resolved config (:func:`agnews_exp.config.validation.to_plain`).
        data_checksum: :meth:`agnews_exp.data.corpus.Corpus.checksum`.
    """
    return _digest(scientific_config(plain), data_checksum)

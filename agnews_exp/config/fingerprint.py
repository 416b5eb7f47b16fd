"""Fingerprints of runs: hashes of all that can change a result (configuration, rows, files, code, version)."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from agnews_exp import __version__
from agnews_exp.config.targets import find_targets, is_own
from agnews_exp.core.files import content_checksum

_GROUPS = ("subset", "features", "model")
NOT_SCIENCE = frozenset({
    "n_jobs", "verbose", "verbosity", "cache_dir",
    "concurrency", "budget", "price_per_million_tokens", "confirm", "api_key_env", "timeout_s", "retries",
})  # fmt: skip
"""Argument names that change the time, the money or what is printed, never the result."""

TRAINER_NOT_SCIENCE = frozenset({
    "name", "n_jobs", "accelerator", "devices", "strategy", "evaluation_batch_size", "num_workers",
    "log_every_n_steps", "checkpoint_every_n_steps", "checkpoint_every_seconds", "keep_checkpoints", "deterministic",
    "benchmark", "detect_anomaly", "profiler", "progress_bar",
})  # fmt: skip
"""Keys of the trainer that leave a network as it is; the number of processes counts where there is dropout."""

EVALUATION_NOT_SCIENCE = frozenset({"name", "latency_repeats", "analyses"})
"""Keys of the evaluation that add to a run and change nothing in it; analyses have an identity of their own."""

_OF_PATHS = re.compile(r"(^|_)(path|file|dir|folder|directory)$")
"""Names of keys whose value is a file or folder, if there is one of that name."""


def scientific_config(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config that can change a result (no paths, logging, devices, threads).

    A file or folder that a key names is replaced by the checksum of its content.
    """
    science: dict[str, Any] = {group: _science_of(plain[group]) for group in _GROUPS}
    if science["model"].get("class_weight") is None:  # every row alike, as where nobody speaks of weights
        science["model"].pop("class_weight", None)
    science["data"] = {k: plain["data"][k] for k in ("validation_size", "test_size") if k in plain["data"]}
    if (split := plain.get("split")) not in (None, {"name": "stratified", "column": None}):
        science["split"] = split
    if plain["model"]["family"] == "transformer":
        science["trainer"] = {k: v for k, v in plain["trainer"].items() if k not in TRAINER_NOT_SCIENCE}
    science["evaluation"] = {k: v for k, v in plain["evaluation"].items() if k not in EVALUATION_NOT_SCIENCE}
    for added in ("costs", "slices", "cluster_column"):  # they count where they are set
        if not science["evaluation"].get(added):
            science["evaluation"].pop(added, None)
    science |= {k: plain[k] for k in ("seed", "split_seed", "data_fraction")}
    if plain.get("held_out") is not None:  # it counts where it is set
        science["held_out"] = plain["held_out"]
    # All rows are the same rows, whoever draws them; the word `seed` stays, so that repetitions are known as such.
    if plain["data_fraction"] != 1 and plain["subset_seed"] not in (None, plain["split_seed"]):
        science["subset_seed"] = plain["subset_seed"]
    targets = [path for group in (*_GROUPS, "data") for _, path in find_targets(plain[group], group)]
    if callbacks := plain.get("callbacks"):
        science["callbacks"] = callbacks
        targets += [one if isinstance(one, str) else one["_target_"] for one in callbacks]
    targets += [str(plain["model"].get(key)) for key in ("loss", "network")]
    if own := own_sources([*targets, *plain["evaluation"].get("metrics", [])]):
        science["own_components"] = own
    return science


def fingerprint(plain: Mapping[str, Any], data_checksum: str) -> str:
    """Return 16 hex digits of a resolved configuration and its data; equal for runs that must give the same result."""
    return _digest(config=scientific_config(plain), data=data_checksum)


def group_fingerprint(plain: Mapping[str, Any], data_checksum: str, seeded: Collection[str]) -> str:
    """Return the fingerprint without the seeds and the keys that follow them: equal for repetitions that are averaged.

    A ``subset_seed`` of one's own is such a seed too: each draws other training rows.
    """
    draws = "subset_seed" in seeded or isinstance(plain["subset_seed"], int)
    science = scientific_config({**plain, **({"subset_seed": "seed"} if draws else {})})
    return _digest(config=_unseeded(science, frozenset(seeded)), data=data_checksum)


def component_fingerprint(component: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change with a component's arguments, the files that they name, and its own code."""
    own = own_sources(path for _, path in find_targets(component, ""))
    return _digest(config=_science_of(component), own_components=own)


def _digest(**content: Any) -> str:
    text = json.dumps(content | {"version": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _science_of(value: Any, key: str = "") -> Any:
    """Return nested plain values without those that change no result, and with the contents of files for paths."""
    if isinstance(value, Mapping):
        return {k: _science_of(v, str(k)) for k, v in value.items() if k not in NOT_SCIENCE}
    if isinstance(value, list):
        return [_science_of(v, key) for v in value]
    if not isinstance(value, str) or key in ("_target_", "name"):
        return value
    if key == "package":
        return f"{value} {_version_of(value)}"
    if (_OF_PATHS.search(key) or "/" in value or Path(value).suffix) and (path := _existing(value)) is not None:
        return f"sha256:{content_checksum(path)}"
    return value


def _existing(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if path.is_file() or path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL character, or somebody's home that nobody knows
        return None


def _unseeded(value: Any, seeded: frozenset[str], key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {k: _unseeded(v, seeded, f"{key}.{k}" if key else str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_unseeded(v, seeded, f"{key}[{i}]") for i, v in enumerate(value)]
    return "seed" if key in seeded else value


def own_sources(paths: Iterable[str]) -> dict[str, str]:
    """Return the identities of the user's own code that dotted paths lead to; no entry for what this package brings.

    The code is that of the module named, of its packages, and of every module that these import or re-export,
    also within functions. Modules of the user's folders have a checksum, installed packages their version. A module
    that is imported by a name made at run time is not seen.
    """
    found: dict[str, str] = {}
    waiting = [name for path in paths if is_own(name := str(path).rpartition(".")[0])]
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in found or top in sys.stdlib_module_names or top == "agnews_exp":
            continue
        spec = _find(name)
        if spec is None:
            continue
        if not is_own(name) and {"site-packages", "dist-packages"} & set(Path(spec.origin or "").parts):
            found[top] = _version_of(top)
        else:
            found[name] = content_checksum(Path(spec.origin)) if spec.origin and spec.has_location else ""
            waiting += [name.rpartition(".")[0]] if "." in name else []
            waiting += _imports(spec)
    return {name: found[name] for name in sorted(found) if found[name]}


def _find(name: str) -> ModuleSpec | None:
    """Find a module without importing it, as importing its packages would."""
    top, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module that was made by hand
        return None
    for number in range(1, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *parts[:number]]), spec.submodule_search_locations)
    return spec


def _imports(spec: ModuleSpec) -> Iterator[str]:
    """Yield the names of modules that a module's source imports, and of what may be modules among imported names."""
    if not spec.origin or not spec.origin.endswith(".py"):
        return
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except SyntaxError:  # whoever imports it is told
        return
    package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            if module:
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names if alias.name != "*")


@cache
def _version_of(package: str) -> str:
    """Return the version of the installed package that brings a module; empty where none is installed."""
    for name in (package, *packages_distributions().get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""

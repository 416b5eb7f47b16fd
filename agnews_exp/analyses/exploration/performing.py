"""Performs the parts of an exploration: each is kept in a folder of its own as soon as it is done, and not repeated."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from omegaconf import OmegaConf

from agnews_exp import __version__
from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.analyses.findings import Findings, findings_to_json, markdown_text, read_findings, to_markdown
from agnews_exp.analyses.performing import FINDINGS, SUMMARY, renewed, title_of, write_findings
from agnews_exp.config.compose import compose_config
from agnews_exp.config.fingerprint import component_fingerprint
from agnews_exp.config.targets import check_arguments, resolve_target
from agnews_exp.config.validation import CheckedConfig, check_config, to_plain
from agnews_exp.core.cache import cache_key
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError
from agnews_exp.core.files import atomic_path
from agnews_exp.core.paths import check_file_name
from agnews_exp.data.corpus import Splits
from agnews_exp.drawing import draw_folder
from agnews_exp.evaluation.inputs import plain as plain_values
from agnews_exp.evaluation.tasks import refuse_left_out, task_of
from agnews_exp.tracking.record import read_json, write_json

log = logging.getLogger(__name__)

_FIELDS: Final = ("status", "reason", "seconds", "arguments", "headline", "metrics", "details")
"""What the exploration's findings.json holds of a part; all of it is in the part's own."""

_SETTINGS: Final = frozenset({"name", "folder", "seed", "texts"})
"""Keys of the group that are no parts."""

Report = Callable[[str, str], None]


@dataclass(frozen=True, eq=False)
class EdaConfig:
    """A checked exploration."""

    checked: CheckedConfig  # the configuration of data and split, as a run has it
    settings: Mapping[str, Any]  # ``name``, ``folder``, ``seed``, ``texts``
    parts: Mapping[str, dict[str, Any]]  # ``_target_`` and checked arguments of each part that is on, by name

    @property
    def folder(self) -> Path:
        """The exploration's folder."""
        return Path(self.checked.run.paths.output_dir) / "eda" / str(self.settings["folder"])


def compose_eda(overrides: list[str]) -> EdaConfig:
    """Compose and check an exploration from words such as ``["data=sample", "eda=fast", "eda.topics=null"]``.

    Raises:
        ConfigError: Something of it is unknown or out of range.
    """
    chosen = [] if any(word.startswith("eda=") for word in overrides) else ["eda=full"]
    plain = to_plain(compose_config([*chosen, *overrides]))
    group: dict[str, Any] = plain.pop("eda")
    checked = check_config(OmegaConf.create(plain))
    settings = {key: group[key] for key in sorted(_SETTINGS)}
    if not isinstance(settings["seed"], int) or settings["seed"] < 0:
        raise ConfigError(f"eda.seed={settings['seed']!r}: it is a whole number, at least 0.", fix="eda.seed=42")
    if not isinstance(settings["texts"], bool):
        raise ConfigError(f"eda.texts={settings['texts']!r}: it is true or false.", fix="eda.texts=true")
    if settings["folder"] is None:
        fraction = "" if checked.run.data_fraction == 1 else f"-{checked.run.data_fraction:g}"
        choice = "" if settings["name"] == "full" else f"-{settings['name']}"
        settings["folder"] = f"{checked.run.data.name}{fraction}{choice}"
    elif not isinstance(settings["folder"], str):
        raise ConfigError(f"eda.folder={settings['folder']!r} is no name of a folder.", fix="eda.folder=my-corpus")
    place = Path(checked.run.paths.output_dir) / "eda"
    check_file_name("eda.folder", str(settings["folder"]), [path.name for path in place.glob("*")])
    parts: dict[str, dict[str, Any]] = {}
    for name, component in group.items():
        if name in _SETTINGS or component is None:
            continue
        check_file_name("eda", str(name), parts)
        arguments = {k: v for k, v in component.items() if k != "_target_"}
        target = resolve_target(component.get("_target_"), f"eda.{name}._target_")
        parts[name] = {"_target_": component["_target_"]}
        parts[name] |= check_arguments(target, arguments, f"eda.{name}", ("corpus",))
    return EdaConfig(checked, settings, parts)


def perform_eda(
    config: EdaConfig, splits: Splits, *, force: bool = False, report: Report = lambda name, status: None
) -> dict[str, Any]:
    """Perform the parts that the folder does not have yet for these rows and settings; return findings.json's content.

    Each part is kept in a folder of its own as soon as it is done. ``report`` is called with its name and status.

    Raises:
        ConfigError: Another exploration is at work in the folder.
    """
    from filelock import FileLock, Timeout

    refuse_left_out(task_of(splits.train.labels), "eda", splits.source)
    folder = config.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))  # beside it: MLflow gets all of the folder
    try:
        held = lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"Another exploration is at work in {folder}.", fix="wait until it has ended, or eda.folder=another-name"
        ) from error
    with held:
        cache = Path(config.checked.run.paths.cache_dir)
        corpus = ExploredCorpus(splits, cache, int(config.settings["seed"]), bool(config.settings["texts"]))
        content = _header(config, splits)
        for path in folder.iterdir():
            if path.is_dir() and path.name not in config.parts:  # switched off since
                shutil.rmtree(path)
        for name, component in config.parts.items():
            key = cache_key(content["identity"], name, component_fingerprint(component))
            part = {} if force else (read_json(folder / name / FINDINGS) or {})
            status = "kept"
            if part.get("identity") != key:
                part = _perform(corpus, folder / name, component, key)
                status = part["status"]
            content["parts"][name] = {field: part[field] for field in _FIELDS}
            report(name, status)
        write_json(folder / FINDINGS, content)
        with atomic_path(folder / SUMMARY) as temporary:
            temporary.write_text(_summary(folder, content), encoding="utf-8")
    return content


def _header(config: EdaConfig, splits: Splits) -> dict[str, Any]:
    parts = {"train": splits.train, "val": splits.validation, "test": splits.test}
    data = {
        "name": config.checked.run.data.name,
        "source": splits.source,
        "location": splits.location,
        "checksum": splits.data_checksum,
        "data_fraction": config.checked.run.data_fraction,
        "split_seed": config.checked.run.split_seed,
        "rows": {split: len(rows) for split, rows in parts.items()},
        "digests": {split: splits.digest(rows) for split, rows in parts.items()},
    }
    settings = config.settings
    identity = cache_key(data["checksum"], *data["digests"].values(), settings["seed"], settings["texts"], __version__)
    return {
        "name": settings["folder"], "choice": settings["name"],
        "settings": dict(settings), "class_names": list(splits.class_names), "data": data, "identity": identity,
        "parts": {},
    }  # fmt: skip


def _perform(corpus: ExploredCorpus, folder: Path, component: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Perform one part; a missing package or a failure becomes its status and does not stop the others."""
    name, arguments = folder.name, {k: v for k, v in component.items() if k != "_target_"}
    part = resolve_target(component["_target_"], f"eda.{name}._target_")
    start = time.perf_counter()
    origin: dict[str, Any] = {"analysis": name, "arguments": arguments, "identity": key}
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with renewed(folder) as unfinished:
            found: Findings = part(corpus, **arguments)
            found = replace(found, metrics=plain_values(found.metrics), details=plain_values(found.details))
            origin |= {"status": "finished", "reason": None, "seconds": time.perf_counter() - start}
            write_findings(unfinished, found, origin, draw=True)
            draw_folder(unfinished, ending=".svg")
    except MissingDependencyError as error:
        found = Findings()
        origin |= {"status": "left_out", "reason": str(error)}
    except Exception as error:
        log.debug("part %s failed", name, exc_info=True)
        found = Findings()
        said = str(error) if isinstance(error, AgnewsError) else f"{type(error).__name__}: {error}"
        origin |= {"status": "failed", "reason": said}
    return origin | findings_to_json(found) | {"seconds": time.perf_counter() - start}


def stored_parts(folder: Path) -> dict[str, Findings]:
    """Return the findings of an exploration's finished parts by name.

    Raises:
        StorageError: A part's are damaged, or of another version.
    """
    content = read_json(folder / FINDINGS) or {}
    finished = (name for name, part in content.get("parts", {}).items() if part["status"] == "finished")
    return {name: read_findings(folder / name, read_json(folder / name / FINDINGS) or {}) for name in finished}


def _summary(folder: Path, content: Mapping[str, Any]) -> str:
    rows = ", ".join(f"{n:,} {split}" for split, n in content["data"]["rows"].items())
    seconds = sum(part["seconds"] for part in content["parts"].values())
    sections = [
        f"# Exploration: {markdown_text(content['name'])}",
        f"{markdown_text(content['data']['source'])}, rows: {rows}; seed {content['settings']['seed']}. Training rows "
        f"only, but for what is said to be of other splits. {seconds:.0f} s.",
    ]
    left_out = []
    for name, found in stored_parts(folder).items():
        address = f"{name}/"
        sections += [
            f"## {title_of(name)}",
            markdown_text(found.headline),
            to_markdown(found.blocks, level=3, figures=address, tables=address),
        ]
        left_out += [f"{what} in {name}: {why}" for what, why in found.details.get("left_out", {}).items()]
    for name, part in content["parts"].items():
        if part["status"] != "finished":
            left_out.append(f"{name} {part['status'].replace('_', ' ')}: {part['reason']}")
    if left_out:
        sections += ["## Left out", "\n".join(f"- {markdown_text(said)}" for said in left_out)]
    return "\n\n".join(sections) + "\n"

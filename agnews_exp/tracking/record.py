"""The run record: a run folder that is either complete or says that it is not.

Every file is written beside its place and moved there, and ``status.json`` turns to ``finished`` last, so a reader
never sees half a record. MLflow is a mirror of this folder, not the other way round.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import ConfigError, StorageError
from agnews_exp.core.files import STATUS as RUN_STATUS
from agnews_exp.core.files import atomic_path, is_intact, sha256_of
from agnews_exp.core.paths import HISTORY as HISTORY
from agnews_exp.core.process import born
from agnews_exp.core.text import has_control, is_name

_TEXTS = ("name", "model", "features", "family", "primary", "fingerprint")
NUMBERS = ("seed", "split_seed", "data_fraction")
_LARGEST_CONFIG = 1 << 20


def wrong_result(content: Mapping[str, Any]) -> str | None:
    """Return the mistake in the content of a result.json, in words, or None.

    Names end up in terminals, tables and paths of figures, so those with control characters are wrong, too.
    """
    for key in _TEXTS:
        if key in content and not is_name(content[key]):
            return f"{key} is no name"
    for key in (*NUMBERS, "subset_seed"):
        if key in content and not _is_number(content[key]):
            return f"{key} is no number"
    metrics = content.get("metrics", {})
    if not isinstance(metrics, dict) or not all(not has_control(str(k)) and _is_number(v) for k, v in metrics.items()):
        return "metrics are no numbers"
    names, data = content.get("class_names", []), content.get("data", {})
    if not isinstance(names, list) or not all(map(is_name, names)):
        return "class_names are no names"
    if not isinstance(data, dict):
        return "data are no mapping"
    rows = data.get("rows", {})
    if not isinstance(rows, dict) or not all(_is_number(n) for n in rows.values()):
        return "data.rows are no numbers"
    if any(key in data and not is_name(data[key]) for key in ("name", "source", "checksum", "evaluation_checksum")):
        return "data have no names"
    return None


def repetition(result: Mapping[str, Any]) -> tuple[int, int]:
    """Return the seed of a run and the one that drew its training rows (0: all rows), which tell repetitions apart."""
    return int(result["seed"]), int(result.get("subset_seed", 0))


def missing_key(content: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Return the first of some dotted keys that a result lacks, or None."""
    for key in keys:
        found: Any = content
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return key
            found = found[part]
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_config(path: Path) -> dict[str, Any]:
    """Return a record's config.yaml as plain values.

    A run stores values, never interpolations, aliases or tags: a file with ``${oc.env:TOKEN}``, ten aliases of ten
    aliases, or ``!!python/object`` is not one that a run wrote.

    Raises:
        StorageError: It is missing, damaged, or holds any of these.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    what_libraries_raise = (yaml.YAMLError, OmegaConfBaseException)
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it has more than {_LARGEST_CONFIG:,} bytes")
        text = path.read_text(encoding="utf-8")
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it holds an alias")
        # OmegaConf's own loader: YAML's has another idea of what a number is.
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        if not isinstance(content, dict) or not content:
            raise ValueError("it is no mapping")
        content = _unescaped(content)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, *what_libraries_raise) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{path} is damaged: {reason}", fix="train it again (force=true)") from error
    return {str(key): value for key, value in content.items()}


def config_text(plain: Mapping[str, Any]) -> str:
    """Return a resolved configuration as YAML that Hydra reads as it is: a ``${`` in a value is one, no reference."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(escaped(dict(plain))))


_REFERENCE = re.compile(r"(\\*)\$\{")


def escaped(value: Any) -> Any:
    """Return values whose every ``${`` OmegaConf takes for text, with backslashes before it as its grammar wants."""
    return _with_texts(value, lambda text: _REFERENCE.sub(lambda found: found[1] * 2 + "\\${", text))


def _unescaped(value: Any) -> Any:
    """Undo :func:`escaped`.

    Raises:
        ValueError: A text holds a reference.
    """

    def unescape(found: re.Match[str]) -> str:
        if len(found[1]) % 2 == 0:
            raise ValueError("it holds an interpolation")
        return "\\" * (len(found[1]) // 2) + "${"

    return _with_texts(value, lambda text: _REFERENCE.sub(unescape, text))


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return nested values with all texts changed; keys stay, for nothing refers from a key."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _with_texts(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_texts(inner, change) for inner in value]
    return value


STATUS, RESULT, CONFIG, ENVIRONMENT = RUN_STATUS, "result.json", "config.yaml", "environment.json"
PREDICTIONS, TRACKING, REPORT = "predictions.parquet", "tracking.json", "classification_report.csv"
MODEL, FIGURES, ANALYSES = "model", "figures", "analysis"

_INDEX = "index"

log = logging.getLogger(__name__)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None when the file is missing or not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


RECORD_VERSION = 2
"""Version of what result.json holds; records of another one are not read."""
_OUTDATED = "another version of agnews-exp (0.1) recorded it, whose records this one does not read."


def _again(folder: Path) -> str:
    """Return how to run once more what an outdated record was made by."""
    environment = read_json(folder / ENVIRONMENT) or {}
    command = environment.get("command")
    words = " ".join(map(str, command)) if isinstance(command, list) else "the same command"
    return f"run it again: {words}"


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def status(self) -> str:
        """running, finished, failed, killed, pruned, or unknown."""
        word = (read_json(self.path / STATUS) or {}).get("status")
        return str(word) if word in ("running", "finished", "failed", "killed", "pruned") else "unknown"

    @property
    def ended(self) -> datetime:
        """When the run ended, or when its state was written last."""
        with suppress(ValueError, TypeError):
            ended = datetime.fromisoformat((read_json(self.path / STATUS) or {})["updated"])
            return ended if ended.tzinfo else ended.replace(tzinfo=UTC)
        with suppress(OSError):
            return datetime.fromtimestamp((self.path / STATUS).stat().st_mtime, UTC)
        return datetime.fromtimestamp(0, UTC)

    @property
    def names(self) -> list[str]:
        """The names under which the same run was asked for, the latest last; empty where it was asked for once."""
        names = (read_json(self.path / STATUS) or {}).get("names")
        return [name for name in names if is_name(name)] if isinstance(names, list) else []

    @property
    def model(self) -> Path:
        """The folder of the fitted model.

        Raises:
            ConfigError: There is none.
        """
        if not (self.path / MODEL).is_dir():
            raise ConfigError(f"{self.path} has no model folder.", fix="train it again (force=true)")
        return self.path / MODEL

    def add_name(self, name: str) -> None:
        """Let a finished run go by the name under which somebody asks for it now; a read-only folder keeps its own."""
        before = self.names or [str((self.result() or {}).get("name"))]
        with suppress(OSError):
            names = [*(known for known in before if known != name), name]
            write_json(self.path / STATUS, {**(read_json(self.path / STATUS) or {}), "names": names})

    def start(self, plain: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Write config.yaml, environment.json and ``status: running``."""
        self._started = _now()
        with atomic_path(self.path / CONFIG) as temporary:
            temporary.write_text(config_text(plain), encoding="utf-8")
        write_json(self.path / ENVIRONMENT, environment)
        self._set_status("running")

    def identify(self, fingerprint: str) -> None:
        """Store the run's identity, as it has work to do: from here on it is mirrored in MLflow."""
        self._set_status("running", fingerprint=fingerprint)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, then ``status: finished`` with checksums: from here on the run counts."""
        write_json(self.path / RESULT, {**result, "record": RECORD_VERSION})
        written = (self.path / name for name in (RESULT, CONFIG, PREDICTIONS))
        self._set_status("finished", sha256={path.name: sha256_of(path) for path in written if path.is_file()})

    def abandon(
        self, status: str, reason: str, *, traceback: str | None = None, pruned: Mapping[str, Any] | None = None
    ) -> None:
        """Mark the run failed, killed or pruned and remove incomplete files; never raises.

        The bulky parts go first: on a full disk that makes the room for the status.
        """
        for part in (MODEL, FIGURES, ANALYSES):
            shutil.rmtree(self.path / part, ignore_errors=True)
        for part in (PREDICTIONS, REPORT, RESULT):
            with suppress(OSError):
                (self.path / part).unlink(missing_ok=True)
        with suppress(OSError):
            self._set_status(status, reason=reason, traceback=traceback, pruned=pruned)

    def _set_status(self, status: str, **more: Any) -> None:
        before = {} if status == "running" else read_json(self.path / STATUS) or {}
        content = {
            "status": status,
            "started": getattr(self, "_started", before.get("started")),
            "updated": _now(),
            "pid": os.getpid(),
            "born": born(),
        }
        if "fingerprint" in before:
            content["fingerprint"] = before["fingerprint"]
        write_json(self.path / STATUS, content | {k: v for k, v in more.items() if v is not None})

    def result(self) -> dict[str, Any] | None:
        """Return result.json of a finished run, else None; a damaged one is none, and a warning names it."""
        if self.status != "finished":
            return None
        content = read_json(self.path / RESULT)
        if content is not None and content.get("record") != RECORD_VERSION:
            _warn_once(f"{self.path} is left out: {_OUTDATED}")
            return None
        reason = "missing or not a JSON object" if content is None else wrong_result(content)
        if reason is None and not is_intact(self.path / RESULT):
            reason = "its checksum is another one than when the run ended"
        if content is not None and reason is None:
            made = f"{content.get('model')}-{content.get('features')}"  # composed, where nobody gave a name
            given = [name for name in self.names if name != made]
            return content | ({"name": given[-1]} if given else {})
        _warn_once(f"{self.path / RESULT} is damaged ({reason})")
        return None

    def needed_result(self, *keys: str) -> dict[str, Any]:
        """Return result.json of a finished run, which must have these dotted keys.

        Raises:
            ConfigError: The run has not finished.
            StorageError: Its record is damaged.
        """
        content = self.result()
        lost = None if content is None else missing_key(content, keys)
        if content is not None and lost is None:
            return content
        if self.status != "finished":
            raise ConfigError(f"{self.path} holds no finished run (its status is {self.status}).")
        if (read_json(self.path / RESULT) or {"record": RECORD_VERSION}).get("record") != RECORD_VERSION:
            raise StorageError(f"{self.path} cannot be read: {_OUTDATED}", fix=_again(self.path))
        raise StorageError(
            f"{self.path / RESULT} is damaged: " + (f"it lacks {lost}." if lost else "no result can be read from it."),
            fix="train it again (force=true)",
        )

    def config(self) -> dict[str, Any]:
        """Return config.yaml as plain values; nothing in it is resolved.

        Raises:
            StorageError: It is missing, damaged, or not what a run writes.
        """
        content = read_config(self.path / CONFIG)
        if not is_intact(self.path / CONFIG):
            raise StorageError(
                f"{self.path / CONFIG} is damaged or was changed since the run ended.",
                fix="train it again (force=true)",
            )
        return content


@cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def remember(output_dir: Path, fingerprint: str, run: Path) -> None:
    """Note that this fingerprint has a finished run."""
    write_json(output_dir / _INDEX / f"{fingerprint}.json", {"run": os.path.relpath(run, output_dir)})


def recall(output_dir: Path, fingerprint: str) -> RunFolder | None:
    """Return the finished run of a fingerprint, or None when there is none or its folder was deleted."""
    entry = read_json(output_dir / _INDEX / f"{fingerprint}.json")
    if entry is None:
        return None
    folder = RunFolder((output_dir / str(entry.get("run", ""))).resolve())
    return folder if folder.result() is not None else None


def finished_runs(output_dir: Path) -> Iterator[RunFolder]:
    """Yield every finished run under runs/ and sweeps/, those that ended first standing first."""
    places = [*output_dir.glob(f"runs/*/{STATUS}"), *output_dir.glob(f"sweeps/*/*/{STATUS}")]
    folders = [RunFolder(status.parent) for status in places]
    yield from sorted((f for f in folders if f.status == "finished"), key=lambda f: (f.ended, f.path))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


JOB_REPORT = "AGNEWS_JOB_REPORT"
"""Environment variable of a sweep's job: the file that it reports to."""


def report_job(status: str, objective: float | None, run: Path, *, reason: str | None = None) -> None:
    """Report that a job of a sweep ended ``finished`` or ``pruned``, with the value that counts for a search.

    ``run`` is the folder of the record with the result, an earlier run's when that was not repeated.
    """
    if path := os.environ.get(JOB_REPORT):
        base = Path(path).parents[1]  # <sweep>/jobs/<num>.report.json
        write_json(
            Path(path),
            {"status": status, "objective": objective, "run": os.path.relpath(run, base), "reason": reason},
        )

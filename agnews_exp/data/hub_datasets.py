"""Any labelled data set of the Hugging Face hub, or a local folder in its layout: Parquet files by split."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from agnews_exp.core.errors import ConfigError, DataError, first_line, unknown_name
from agnews_exp.data.corpus import Corpus
from agnews_exp.data.csv_files import Treatment, load_csv
from agnews_exp.data.files import listed, reading
from agnews_exp.data.hub import call_hub, fetch_dataset_file
from agnews_exp.data.tables import ColumnName

logger = logging.getLogger(__name__)
T = TypeVar("T")

_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What the hub calls its splits, as far as it is guessed."""


def load_hf(
    *,
    path: str | None = None,
    revision: str | None = None,
    config: str | None = None,
    text_columns: Annotated[list[ColumnName], Field(min_length=1)] | ColumnName = "text",
    label_column: ColumnName = "label",
    train_split: str = "train",
    validation_split: str | None = "auto",
    test_split: str | None = "auto",
    split: str = "stratified",
    split_column: ColumnName | None = None,
    empty_texts: Treatment = "refuse",
    duplicate_rows: Treatment = "keep",
    conflicting_labels: Treatment = "keep",
    rare_classes: Literal["refuse", "drop", "merge", "keep"] = "refuse",
    rare_rows: Annotated[int, Field(ge=2)] = 7,
    hub_timeout: Annotated[float, Field(gt=0)] = 30.0,
    cache_dir: str | Path = "outputs/cache",
) -> Corpus:
    """Load a data set of the hub; its Parquet files are downloaded once for each revision.

    A revision is a commit, tag or branch (None: the newest); a config is one of several data sets of a repository, by
    the name in its README. Labels are texts, or numbers that README or Parquet files have names for. A split that is
    ``auto`` is found by its name (validation, valid, val, dev; test); None cuts rows off. All other keys are those of
    :func:`agnews_exp.data.csv_files.load_csv`.

    Raises:
        ConfigError: There is no such configuration, split or column.
        DataError: The hub cannot be reached or refuses, or the files are not what they should be.
    """
    if not path:
        raise ConfigError("data=hf needs a data set.", fix="data.path=<owner/name> data.label_column=<column>")
    folder = Path(path).expanduser()
    if local := folder.is_dir():
        files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        location = str(folder.resolve())

        def fetch(name: str) -> Path:
            return folder / name
    else:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
            raise ConfigError(f"data.path={path} is neither a folder nor owner/name of a data set on the hub.")
        commit, files = ask_for_files(path, revision, Path(cache_dir), hub_timeout)
        location = f"https://huggingface.co/datasets/{path}@{commit}"

        def fetch(name: str) -> Path:
            return _explained(path, lambda: fetch_dataset_file(
                path, commit, name, sha256=None, cache_dir=Path(cache_dir), timeout=hub_timeout
            ))  # fmt: skip

    card = _read_card(fetch("README.md")) if "README.md" in files else {}
    with _understood(f"the head of {path}'s README.md"):
        parts = _split_files(path, files, card, config)
    wanted = {"train": train_split, "validation": validation_split, "test": test_split}
    patterns: dict[str, Path | None] = {}
    for part, asked in wanted.items():
        name = next((n for n in _NAMES[part] if n in parts), None) if asked == "auto" else asked
        if name is not None and name not in parts:
            raise unknown_name(f"split in data.{part}_split of {path}", name, list(parts))
        patterns[part] = None if name is None else _pattern(parts[name], fetch)
    train = patterns["train"]
    assert train is not None
    with _understood(f"what {path} says of its classes"):
        class_names = _class_names(fetch(parts[train_split][0]), card, str(label_column), config)
    corpus = load_csv(
        train_file=train,
        validation_file=patterns["validation"],
        test_file=patterns["test"],
        text_columns=text_columns,
        label_column=label_column,
        class_names=class_names,
        split=split,
        split_column=split_column,
        empty_texts=empty_texts,
        duplicate_rows=duplicate_rows,
        conflicting_labels=conflicting_labels,
        rare_classes=rare_classes,
        rare_rows=rare_rows,
    )
    return replace(corpus, source="hf:folder" if local else f"hf:{path}", location=location)


def ask_for_files(path: str, revision: str | None, cache_dir: Path, timeout: float) -> tuple[str, list[str]]:
    """Return the commit and the names of its files; without a network, those of the newest listing in the cache.

    Raises:
        DataError: The hub does not tell, and the cache does not know.
    """
    import os

    from huggingface_hub import HfApi

    kept = cache_dir / "hf_listings" / path.replace("/", "--")
    known = sorted(kept.glob("*.json"), key=lambda file: file.stat().st_mtime)
    pinned = kept / f"{revision}.json"
    if pinned in known:
        return str(revision), json.loads(pinned.read_text("utf-8"))
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        info = _explained(path, lambda: call_hub(
            lambda: api.dataset_info(path, revision=revision, timeout=timeout), timeout, path
        ))  # fmt: skip
    except DataError:
        if revision is None and known:
            logger.warning("The hub does not give the newest %s: %s is taken from the cache", path, known[-1].stem)
            return known[-1].stem, json.loads(known[-1].read_text("utf-8"))
        raise
    files = sorted(file.rfilename for file in info.siblings or ())
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{info.sha}.json").write_text(json.dumps(files), encoding="utf-8")
    return str(info.sha), files


def _explained(path: str, call: Callable[[], T]) -> T:
    """Ask the hub, and say of a refusal what helps."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return call()
    except DataError as error:
        cause = error.__cause__
        fix = f"data.path=<a local folder with the files of {path}>, or run again where the hub can be reached"
        if isinstance(cause, GatedRepoError):
            fix = f"accept its terms at https://huggingface.co/datasets/{path}, then `hf auth login` or HF_TOKEN"
        elif isinstance(cause, RevisionNotFoundError):
            fix = "data.revision=null, or a commit, tag or branch that it has"
        elif isinstance(cause, RepositoryNotFoundError | HfHubHTTPError):
            fix = "check data.path (owner/name); a private data set needs `hf auth login` or HF_TOKEN"
        raise DataError(error.message, fix=fix) from cause


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Say so where a description, which anybody may have written, is not of the form that the hub has."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{what} is not of the hub's form: {first_line(error)}.", fix="data=csv with the downloaded files"
        ) from error


def _read_card(path: Path) -> dict[str, Any]:
    """Return the head of a README, in YAML between two lines of dashes; empty where it has none."""
    import yaml

    with reading(path):
        text = path.read_text("utf-8", errors="replace")
    found = re.match(r"---\n(.*?)\n---", text.replace("\r\n", "\n"), re.DOTALL)
    try:
        card = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise DataError(f"{path}: its head is no YAML: {str(error).splitlines()[0]}.") from error
    return card if isinstance(card, dict) else {}


def _entry(entries: Any, config: str | None) -> Mapping[str, Any]:
    """Return the entry of a README's list (or only entry) that is about a configuration."""
    found = [entry for entry in (entries if isinstance(entries, list) else [entries]) if isinstance(entry, Mapping)]
    chosen = [e for e in found if e.get("config_name", "default") == (config or "default") or e.get("default")]
    return chosen[0] if chosen else found[0] if len(found) == 1 else {}


def _split_files(path: str, files: Sequence[str], card: Mapping[str, Any], config: str | None) -> dict[str, list[str]]:
    """Return the Parquet files of every split: as the README says, or else by folders' and files' names."""
    entries = [entry for entry in card.get("configs") or [] if isinstance(entry, Mapping)]
    names = [str(entry.get("config_name", "default")) for entry in entries]
    if config is not None and names and config not in names:
        raise unknown_name(f"data.config of {path}", config, names)
    entry = next((e for e, name in zip(entries, names, strict=True) if name == config), None) or _entry(entries, config)
    if config is None and len(entries) > 1 and not entry:
        raise ConfigError(f"{path} holds {len(names)} data sets: {listed(names)}.", fix=f"data.config={names[0]}")
    parquet = [file for file in files if file.endswith(".parquet")]
    found: dict[str, list[str]] = {}
    for item in entry.get("data_files") or [] if isinstance(entry.get("data_files"), list) else []:
        given = item.get("path", [])
        globs = [given] if isinstance(given, str) else given
        found[str(item.get("split"))] = [file for file in parquet if any(fnmatch(file, glob) for glob in globs)]
    if not found:
        for file in parquet:
            if config is None or not entries or config in file.split("/"):
                words = re.split(r"[/_.\-]", file)
                name = next((w for names in _NAMES.values() for w in names if w in words), None)
                if name:
                    found.setdefault(name, []).append(file)
    found = {name: sorted(members) for name, members in found.items() if members}
    if not found:
        raise DataError(
            f"{path} has no Parquet files of a split ({listed(list(files), 5) or 'no files'}).",
            fix=f"data.revision=refs/convert/parquet, where the hub keeps {path} as Parquet, "
            "or data=csv with a downloaded file",
        )
    return found


def _pattern(members: Sequence[str], fetch: Callable[[str], Path]) -> Path:
    """Fetch the files of a split and return the one path, with a star where there are several, that means them."""
    paths = [fetch(name) for name in members]
    if len(paths) == 1:
        return paths[0]
    differing = (len(set(letters)) > 1 for letters in zip(*(one.name for one in paths), strict=False))
    start = next((i for i, differs in enumerate(differing) if differs), 0)
    pattern = paths[0].parent / f"{paths[0].name[:start]}*.parquet"
    if sorted(pattern.parent.glob(pattern.name)) != sorted(paths):
        raise DataError(
            f"A split is spread over files that {pattern} does not tell from others: {listed(members, 5)}.",
            fix="put its files into a folder of their own: data=csv 'data.train_file=folder/*.parquet'",
        )
    return pattern


def _class_names(file: Path, card: Mapping[str, Any], label: str, config: str | None) -> list[str] | None:
    """Return the names of classes that are stored as numbers, from a Parquet file's metadata or else the README."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(file):
        try:
            metadata = pq.read_schema(file).metadata or {}
        except pa.ArrowException as error:
            raise DataError(f"{file} is not readable Parquet: {error}.", fix="delete it and get it again") from error
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    if names := (features.get(label) or {}).get("names"):
        return [str(name) for name in names]
    for feature in _entry(card.get("dataset_info"), config).get("features") or []:
        if feature.get("name") == label and isinstance(feature.get("dtype"), Mapping):
            by_number = feature["dtype"].get("class_label", {}).get("names", {})
            return [str(by_number[key]) for key in sorted(by_number, key=int)] or None
    return None

"""AG News from a folder or the hub, the small corpus that ships with the package, and ``data=auto``."""

from __future__ import annotations

import importlib.resources
import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agnews_exp.core.errors import AgnewsError, DataError
from agnews_exp.core.files import sha256_of
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.csv_files import read_file
from agnews_exp.data.files import Labels, reading
from agnews_exp.data.hub import fetch_dataset_file
from agnews_exp.data.tables import Reading

logger = logging.getLogger(__name__)

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")
OFFICIAL_ROWS = {"train": 120_000, "test": 7_600}
OFFICIAL_SHA256 = {
    "train": "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e",
    "test": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
}
"""SHA-256 of the files of Zhang, Zhao and LeCun (2015)."""

HUB_REPOSITORY = "fancyzhx/ag_news"
HUB_REVISION = "eb185aade064a813bc0b7f42de02595523103ca4"
_HUB_FILES = {
    "train": (
        "data/train-00000-of-00001.parquet",
        "fc508d6d9868594e3da960a8cfeb63ab5a4746598b93428c224397080c1f52ee",
    ),
    "test": (
        "data/test-00000-of-00001.parquet",
        "71de87ec66bc5737752a2502204dfa6d7fe9856ade3ea444dc6317789a4f13fb",
    ),
}
OFFICIAL_FORMAT = Reading("csv", ",", "csv", "utf-8", has_header=False, width=3)
"""The way of the official files: no header, fields quoted; class, title and description."""


def load_ag_news(
    *,
    dir: str | Path | None = None,
    download: bool = True,
    repository: str = HUB_REPOSITORY,
    revision: str = HUB_REVISION,
    hub_timeout: Annotated[float, Field(gt=0, le=600)] = 30.0,
    cache_dir: str | Path = "outputs/cache",
) -> Corpus:
    """Load AG News: ``train.csv`` and ``test.csv`` of ``dir`` if it is given, else from the hub.

    The text of a row is ``title + " " + description``.

    A folder has the official files and, if other than the official four, the class names in ``classes.txt``, line n
    naming class n; other than 120,000 training rows are accepted with a warning. The hub's repository has parquet files
    of ``text`` and ``label`` (0-3); rows and checksums are enforced for its default revision. ``hub_timeout`` is in
    seconds.

    Raises:
        DataError: Files are missing, have bad lines, or cannot be had from the hub.
        StorageError: The cache cannot be written or is damaged.
    """
    if dir:
        return load_official_csv(Path(dir).expanduser())
    if not download:
        raise DataError(
            "AG News: no folder is given (data.dir and AGNEWS_DATA_DIR are empty) and data.download=false.",
            fix="set AGNEWS_DATA_DIR to a folder with train.csv and test.csv, or data.download=true",
        )
    return _load_from_hub(repository, revision, hub_timeout, Path(cache_dir).expanduser() / "hub")


def missing_official_files(folder: Path) -> list[str]:
    """Return which of train.csv and test.csv a folder lacks."""
    return [name for name in ("train.csv", "test.csv") if not (folder / name).is_file()]


def load_official_csv(folder: Path) -> Corpus:
    """Read a folder in the official format: no header, fields quoted, ``class(1-K),title,description``.

    Raises:
        DataError: As :func:`load_ag_news`.
    """
    missing = missing_official_files(folder)
    if missing:
        state = f"lacks {' and '.join(missing)}" if folder.is_dir() else "does not exist"
        raise DataError(
            f"AG News: the folder {folder} {state} (expected: train.csv, test.csv, optionally classes.txt).",
            fix="set AGNEWS_DATA_DIR or data.dir to the folder with these files; or leave both empty",
        )
    class_names = _class_names(folder / "classes.txt")
    known = tuple(str(i) for i in range(1, len(class_names) + 1))
    rows: dict[str, TextRows] = {}
    notes: list[str] = []
    for split in ("train", "test"):
        path = folder / f"{split}.csv"
        rows[split] = read_file(path, [1, 2], 0, Labels(known), OFFICIAL_FORMAT)
        notes.append(_compare_with_official(path, split, len(rows[split])))
    return Corpus(
        train=rows["train"],
        validation=None,
        test=rows["test"],
        class_names=class_names,
        source="ag_news:csv",
        location=f"{folder.resolve()} ({'; '.join(notes)})",
    )


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return CLASS_NAMES
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{path}: it must name at least two classes, all different; it names {list(names)}.")
    return names


def _compare_with_official(path: Path, split: str, n_rows: int) -> str:
    with reading(path):
        digest = sha256_of(path)
    if digest == OFFICIAL_SHA256[split]:
        return f"{split}.csv: official"
    official = OFFICIAL_ROWS[split]
    logger.warning(
        "%s is NOT the official %s.csv: %s rows instead of %s, SHA-256 %s. "
        "Its results do not compare with published ones on the full corpus.",
        path,
        split,
        f"{n_rows:,}",
        f"{official:,}",
        digest,
    )
    return f"{split}.csv: {n_rows} rows, official {official}, sha256 {digest[:12]}"


def _load_from_hub(repository: str, revision: str, timeout: float, cache_dir: Path) -> Corpus:
    pinned = (repository, revision) == (HUB_REPOSITORY, HUB_REVISION)
    rows: dict[str, TextRows] = {}
    for split, (filename, sha256) in _HUB_FILES.items():
        path = fetch_dataset_file(
            repository,
            revision,
            filename,
            sha256=sha256 if pinned else None,
            cache_dir=cache_dir,
            timeout=timeout,
        )
        rows[split] = read_file(path, ["text"], "label", Labels(("0", "1", "2", "3")), Reading("parquet"))
        if pinned and len(rows[split]) != OFFICIAL_ROWS[split]:
            raise DataError(f"{path} has {len(rows[split]):,} rows instead of {OFFICIAL_ROWS[split]:,}.")
    if not pinned:
        logger.warning("%s@%s is not the pinned revision: its content is unchecked", repository, revision)
    return Corpus(
        train=rows["train"],
        validation=None,
        test=rows["test"],
        class_names=CLASS_NAMES,
        source="ag_news:hub",
        location=f"https://huggingface.co/datasets/{repository}@{revision}",
    )


def load_sample() -> Corpus:
    """Load the shipped corpus: generated headlines and descriptions in the four classes of AG News.

    It was made for the package by ``scripts/make_sample_corpus.py`` and holds no real news. It is for trying
    things out without a network: scores on it say nothing about AG News.
    """
    known = tuple(str(i) for i in range(1, len(CLASS_NAMES) + 1))
    folder = importlib.resources.files("agnews_exp.data") / "sample"
    rows = []
    for name in ("train.csv.gz", "test.csv.gz"):
        with importlib.resources.as_file(folder / name) as path:
            rows.append(read_file(path, [1, 2], 0, Labels(known), OFFICIAL_FORMAT))
    return Corpus(rows[0], None, rows[1], CLASS_NAMES, source="sample", location="shipped with agnews_exp")


def load_auto(
    *,
    dir: str | Path | None = None,
    download: bool = True,
    repository: str = HUB_REPOSITORY,
    revision: str = HUB_REVISION,
    hub_timeout: Annotated[float, Field(gt=0, le=10)] = 10.0,
    cache_dir: str | Path = "outputs/cache",
) -> Corpus:
    """Load AG News from ``dir``, else from the hub, else the shipped sample; a warning says which and why.

    Only absence leads to the next source: files that are there but have bad lines are an error, because
    falling back would hide the damage. Arguments are those of :func:`load_ag_news`; the hub has ten seconds at most.

    Raises:
        DataError: The files in ``dir`` have bad lines.
    """
    failed: list[str] = []
    if not dir:
        failed.append("AGNEWS_DATA_DIR and data.dir are empty")
    elif missing := missing_official_files(Path(dir).expanduser()):
        failed.append(f"{dir} lacks {' and '.join(missing)}")
    else:
        return _announce(load_official_csv(Path(dir).expanduser()), failed)
    try:
        return _announce(
            load_ag_news(
                download=download,
                repository=repository,
                revision=revision,
                hub_timeout=hub_timeout,
                cache_dir=cache_dir,
            ),
            failed,
        )
    except AgnewsError as error:
        failed.append(error.message if download else "data.download=false")
    return _announce(load_sample(), failed)


def _announce(corpus: Corpus, failed: list[str]) -> Corpus:
    because = f" Not used: {'; '.join(failed)}." if failed else ""
    if corpus.source == "sample":
        because += " Scores on the sample say NOTHING about AG News."
    logger.warning(
        "data=auto took %s: %s (%s training rows).%s",
        corpus.source.upper(),
        corpus.location,
        f"{len(corpus.train):,}",
        because,
    )
    return corpus

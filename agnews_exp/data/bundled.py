"""The small corpus that ships with the package, and the source that takes the best there is."""

from __future__ import annotations

import importlib.resources
import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agnews_exp.config.errors import AgnewsError
from agnews_exp.data.ag_news import (
    CLASS_NAMES,
    HUB_REPOSITORY,
    HUB_REVISION,
    load_ag_news,
    load_official_csv,
    missing_official_files,
)
from agnews_exp.data.corpus import Corpus
from agnews_exp.data.files import Columns, Labels
from agnews_exp.data.readers import read_table

logger = logging.getLogger(__name__)


def load_sample() -> Corpus:
    """Load the shipped corpus: generated headlines and descriptions in the four classes of AG News.

    It was made for the package by ``scripts/make_sample_corpus.py`` and holds no real news. It is for trying
    things out without a network: scores on it say nothing about AG News.
    """
    known = tuple(str(i) for i in range(1, len(CLASS_NAMES) + 1))
    columns = Columns(texts=(1, 2), label=0, n_fields=3)
    folder = importlib.resources.files("agnews_exp.data") / "sample"
    rows = []
    for name in ("train.csv.gz", "test.csv.gz"):
        with importlib.resources.as_file(folder / name) as path:
            rows.append(read_table(path, columns, Labels(known)))
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
    falling back would hide the damage.

    Args:
        dir: Folder with the official files, or None.
        download: Whether the hub may be asked.
        repository: See :func:`agnews_exp.data.ag_news.load_ag_news`.
        revision: See :func:`agnews_exp.data.ag_news.load_ag_news`.
        hub_timeout: Seconds the hub has to answer, at most ten.
        cache_dir: Folder for downloaded files.

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

"""Prepares the fork server of a sweep: importing this module does what every classical job would do anew.

Nothing here starts a thread (a fork would lose it), and nothing raises: what cannot be imported here, the job that
needs it says.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

from agnews_exp.core.processes import die_with_parent

die_with_parent(os.getppid())  # while it imports, the server does not look at its parent

MODULES = (
    "numba",
    "filelock",
    "hydra._internal.logging_config",
    "sklearn.dummy",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.pipeline",
    "sklearn.svm",
    "pyarrow.parquet",
    "encodings.utf_8_sig",
    "pyarrow.pandas_compat",
    "agnews_exp.experiment",
    "agnews_exp.config.schema",
    "agnews_exp.data.bundled",
    "agnews_exp.data.csv_files",
    "agnews_exp.data.splits",
    "agnews_exp.evaluation.efficiency",
    "agnews_exp.evaluation.metrics",
    "agnews_exp.features.build",
    "agnews_exp.ngrams",
    "agnews_exp.ngrams.kernels",
    "agnews_exp.features.preprocessing",
    "agnews_exp.models.answers",
    "agnews_exp.analyses.performing",
    "agnews_exp.runners.cross_validation",
    "agnews_exp.runners.rows",
    "agnews_exp.models.persistence",
    "agnews_exp.tracking.record_files",
    "agnews_exp.compare.summary",
    "agnews_exp.runners.sklearn_runner",
)


def _import_modules() -> None:
    from hydra.core.plugins import Plugins

    from agnews_exp.models.persistence import import_skops

    Plugins.instance()  # looks for Hydra's plugins
    import_skops()
    for name in MODULES:
        with suppress(ImportError):
            importlib.import_module(name)


def _compose_something() -> None:
    """Let the parsers of YAML and of Hydra's overrides build their tables."""
    from agnews_exp.config.compose import compose_config

    compose_config(["data=sample", "seed=1", "data_fraction=0.5", "hydra.run.dir='/a b/0'"])


def _count_something() -> None:
    """Let numba load the compiled kernels."""
    from agnews_exp.ngrams import TfidfVectorizer

    texts = ["one two three", "two three four", "three four five"]
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, n_jobs=1).fit(texts).transform(texts)


for _prepare in (_import_modules, _compose_something, _count_something):
    with suppress(Exception):
        _prepare()

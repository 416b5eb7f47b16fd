"""What the job server does once, so that the jobs that it forks need not do it each: imports, and first uses."""

from __future__ import annotations

import importlib
from contextlib import suppress

_PRELOAD = (
    "numba",
    "git",
    "filelock",
    "alembic.command",
    "opentelemetry.sdk.metrics.export",
    "sqlalchemy.dialects.sqlite",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracing.processor.base_mlflow",
    "PIL.PngImagePlugin",
    "hydra._internal.logging_config",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.dummy",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.pipeline",
    "sklearn.svm",
    "pyarrow.parquet",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "alembic.config",
    "encodings.utf_8_sig",
    "pyarrow.pandas_compat",
    "agnews_exp.experiment",
    "agnews_exp.config.schema",
    "agnews_exp.data.ag_news",
    "agnews_exp.data.bundled",
    "agnews_exp.data.csv_files",
    "agnews_exp.data.splits",
    "agnews_exp.evaluation.efficiency",
    "agnews_exp.evaluation.metrics",
    "agnews_exp.features.build",
    "agnews_exp.features.fast",
    "agnews_exp.features.fast.count_kernels",
    "agnews_exp.features.fast.matrix_kernels",
    "agnews_exp.features.fast.text_kernels",
    "agnews_exp.features.preprocessing",
    "agnews_exp.models.answers",
    "agnews_exp.reporting.analyses.performing",
    "agnews_exp.runners.cross_validation",
    "agnews_exp.runners.rows",
    "agnews_exp.tracking.classical_model",
    "agnews_exp.tracking.open_run",
    "agnews_exp.tracking.ui_view",
    "agnews_exp.models.persistence",
    "agnews_exp.reporting.record_files",
    "agnews_exp.reporting.summary",
    "agnews_exp.runners.sklearn_runner",
    "agnews_exp.tracking.mirror",
    "agnews_exp.tracking.mlflow_run",
)


def preload() -> None:
    """Import what classical jobs need, and let Hydra look for its plugins; a module that is missing is skipped."""
    from hydra.core.plugins import Plugins

    from agnews_exp.models.persistence import import_skops
    from agnews_exp.sweeps import register_plugins
    from agnews_exp.tracking.store import quieten

    quieten()
    Plugins.instance()
    import_skops()
    register_plugins()
    for name in _PRELOAD:
        with suppress(ImportError):
            importlib.import_module(name)
    for warm_up in (_compose_something, _count_something, _draw_something):
        with suppress(Exception):
            warm_up()


def _compose_something() -> None:
    """Let the parsers of YAML and of Hydra's overrides build their tables here, once, instead of in every job."""
    from agnews_exp.config.compose import compose_config

    compose_config(["data=sample", "seed=1", "data_fraction=0.5", "hydra.run.dir='/a b/0'"])


def _count_something() -> None:
    """Let numba set itself up and load the compiled kernels here, without a thread that a fork would lose."""
    from agnews_exp.features.fast import TfidfVectorizer

    texts = ["one two three", "two three four", "three four five"]
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, n_jobs=1).fit(texts).transform(texts)


def _draw_something() -> None:
    """Let matplotlib find and read its fonts here, once, instead of in every job."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.add_subplot().set(xlabel="x", ylabel="y", title="0,123")
    figure.savefig(io.BytesIO(), format="png")

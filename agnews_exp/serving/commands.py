"""`agnews predict | serve`: answers for a file or a stream of texts, or over HTTP."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    from agnews_exp.serving.http.settings import ServeSettings

    predict = commands.add_parser("predict", help="answer the texts of a file or of standard input")
    predict.add_argument("model", help="run (folder, name, MLflow id), model folder, or models:/name@alias")
    predict.add_argument("file", nargs="?", default="-", help="CSV, TSV, JSON lines, Parquet or text; - is stdin")
    predict.add_argument("--output", type=Path, help=".csv, .jsonl or .parquet (default: JSON lines on stdout)")
    predict.add_argument("--format", choices=("csv", "tsv", "jsonl", "text", "parquet"), help="of the input")
    predict.add_argument("--columns", default="text", help="columns or keys joined into the text: title,body")
    predict.add_argument("--no-header", action="store_true", help="the CSV file has none: --columns 1,2 (from 0)")
    predict.add_argument("--encoding", default="utf-8")
    predict.add_argument("--top-k", type=int, default=1, help="so many most likely classes")
    predict.add_argument("--probabilities", action="store_true", help="every class' confidence")
    predict.add_argument("--with-text", action="store_true", help="give the texts back")
    predict.add_argument(
        "--explain", type=int, nargs="?", const=5, default=0, metavar="N", help="the N words that weigh most (5)"
    )
    predict.add_argument("--batch-size", type=int, default=2048)
    predict.add_argument("--device", default="auto", help="for transformers: auto, cpu, cuda:0")
    predict.add_argument("--force", action="store_true", help="write an existing output anew")
    predict.set_defaults(handler=_predict)

    serve = commands.add_parser("serve", help="answer texts over HTTP")
    serve.add_argument("model", help="run (folder, name, MLflow id), model folder, or models:/name@alias")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind (default: this machine only)")
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    serve.add_argument("--device", default="auto", help="for transformers: auto, cpu, cuda:0")
    serve.add_argument("--quiet", action="store_true", help="no access log")
    for name, field in ServeSettings.model_fields.items():
        if name != "token":  # a command line can be read by every user of the machine
            kind = float if isinstance(field.default, float) else int
            serve.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default)
    serve.epilog = "A bearer token is asked for when the environment variable AGNEWS_SERVE_TOKEN is set."
    serve.set_defaults(handler=_serve)


def _predict(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.errors import ConfigError
    from agnews_exp.config.validation import to_plain
    from agnews_exp.serving.inputs import describe_source
    from agnews_exp.serving.models import find_model
    from agnews_exp.serving.predicting import Answering, predict_stream

    for name in ("top_k", "batch_size"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(options, name)}: it must be at least 1.")
    if options.explain < 0:
        raise ConfigError(f"--explain {options.explain}: it must be at least 1.")
    columns = [column.strip() for column in options.columns.split(",") if column.strip()]
    source = describe_source(
        options.file,
        format=options.format,
        columns=columns,
        header=not options.no_header,
        encoding=options.encoding,
    )
    found = find_model(to_plain(compose_config([])), options.model)
    answering = Answering(options.top_k, options.probabilities, options.with_text, options.batch_size, options.explain)
    with _progress() as progress:
        outcome = predict_stream(
            source,
            found.load(options.device),
            options.output,
            answering=answering,
            identity=found.identity,
            force=options.force,
            progress=progress,
        )
    rate = (outcome.answered + outcome.rejected - outcome.resumed_at) / max(outcome.seconds, 1e-9)
    words = [f"{outcome.answered:,} answered", f"{outcome.rejected:,} rejected"]
    if outcome.resumed_at:
        words.append(f"{outcome.resumed_at:,} of them by an earlier call")
    print(f"{found.name}: {', '.join(words)}; {outcome.seconds:.1f} s, {rate:,.0f} rows/s", file=sys.stderr)
    if options.output is not None:
        print(f"answers  {options.output}", file=sys.stderr)
        if outcome.rejected:
            print(f"rejects  {options.output}.rejects.jsonl (line and reason)", file=sys.stderr)


def _serve(options: argparse.Namespace) -> None:
    import os

    from pydantic import ValidationError

    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.errors import ConfigError, MissingDependencyError
    from agnews_exp.config.validation import to_plain

    try:
        from agnews_exp.serving.http.app import explain
        from agnews_exp.serving.http.running import serve
    except ImportError as error:
        raise MissingDependencyError(
            f"agnews serve needs {error.name}, which is not installed.", fix="pip install 'agnews-exp[serve]'"
        ) from error
    from agnews_exp.serving.http.settings import ServeSettings
    from agnews_exp.serving.models import find_model

    values = {name: getattr(options, name) for name in ServeSettings.model_fields if name != "token"}
    try:
        settings = ServeSettings(**values, token=os.environ.get("AGNEWS_SERVE_TOKEN") or None)
    except ValidationError as error:
        raise ConfigError(f"agnews serve: {explain(error)}") from error
    found = find_model(to_plain(compose_config([])), options.model)
    model = found.load(options.device)
    serve(model, found.name, settings, host=options.host, port=options.port, quiet=options.quiet)


def _progress() -> Any:
    """Return a context that yields a function to be told how many rows are done."""
    from contextlib import contextmanager

    @contextmanager
    def shown() -> Any:
        if not sys.stderr.isatty():
            yield lambda _done: None
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("rows", total=None)
            yield lambda done: bar.update(task, completed=done)

    return shown()

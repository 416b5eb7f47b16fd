"""`agnews predict | serve`: answers for a file or a stream of texts, or over HTTP."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from agnews_exp.evaluation.costs import Decision
    from agnews_exp.models.answers import FittedModel
    from agnews_exp.serving.exporting import Engine, Parity
    from agnews_exp.serving.inputs import Source


def add_parsers(commands: Any) -> None:
    """Add the sub-commands."""
    _add_export_parser(commands)
    _add_registry_parsers(commands)
    _add_answering_parsers(commands)


def _add_export_parser(commands: Any) -> None:
    export = commands.add_parser("export", help="a network (or a cascade's) as ONNX, int8 if wanted, and check it")
    export.add_argument("model", help="run (folder, name, MLflow id), model folder, or models:/name@alias")
    export.add_argument("--output", type=Path, help="folder to write (default: onnx or onnx-int8 beside the model)")
    export.add_argument(
        "--int8", action="store_true", help="int8 weights and products: a quarter of the size; float32 if that is worse"
    )
    export.add_argument("--texts", help="file of texts to check with (default: validation rows of the run)")
    export.add_argument("--columns", help="columns or keys of that file joined into the text (default: as in training)")
    export.add_argument("--rows", type=int, default=1000, help="so many texts are checked (default: 1000)")
    export.add_argument("--force", action="store_true", help="replace an exported folder")
    export.add_argument(
        "--strict", action="store_true", help="exit with 1 when the answers differ by more than allowed"
    )
    export.set_defaults(handler=_export)


def _export(options: argparse.Namespace) -> None:
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.serving.exporting import WorseInt8Error, export_model
    from agnews_exp.serving.models import find_model

    if options.rows < 1:
        raise ConfigError(f"--rows {options.rows}: it must be at least 1.")
    found = find_model(_plain(), options.model)
    texts, labels = _check_rows(options, found.folder)

    def default(name: str) -> Path:
        return options.output or found.folder.parent / name

    output = default("onnx-int8" if options.int8 else "onnx")
    try:
        parity = export_model(found.folder, output, texts, labels, int8=options.int8, force=options.force)
    except WorseInt8Error as error:
        output = default("onnx")
        if options.force or not output.exists():
            export_model(found.folder, output, texts, labels, int8=False, force=options.force)
        error.fix = f"agnews serve {output}, which is float32"
        raise
    _show(found.name, parity)
    print(f"folder {output}\nnext   agnews predict {output} FILE   or   agnews serve {output}")
    for problem in parity.problems:
        print(f"warning: {problem} (details in {output / 'export.json'})", file=sys.stderr)
    if parity.problems and options.strict:
        sys.exit(1)


def _check_rows(options: argparse.Namespace, folder: Path) -> tuple[Sequence[str], NDArray[np.int64] | None]:
    """Return texts to check with and their classes: from a file, or drawn from the run's validation rows."""
    import itertools

    from agnews_exp.core.errors import ConfigError

    if options.texts is not None:
        from agnews_exp.core.errors import DataError
        from agnews_exp.serving.inputs import Asked, describe_source, read_items, recall_reading

        source = describe_source(options.texts, Asked(columns=_columns(options)), recall_reading(folder))
        good = (item.text for item in read_items(source) if item.text is not None)
        texts = list(itertools.islice(good, options.rows))
        if not texts:
            raise DataError(f"--texts {options.texts} holds no text.")
        return texts, None
    from agnews_exp.analyses.performing import FinishedRun
    from agnews_exp.tracking.record import RunFolder

    run = RunFolder(folder.parent)
    if run.result() is None:
        raise ConfigError(
            f"{folder} is not a run's, so there are no validation rows to check the export with.",
            fix="--texts FILE, with texts of the kind that it will answer",
        )
    import numpy as np

    rows = FinishedRun(run).splits.validation
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[: options.rows])
    part = rows.take(chosen)
    return part.texts, part.labels


def _show(name: str, parity: Parity) -> None:
    from rich.console import Console
    from rich.table import Table

    equal, difference = 100 * parity.labels_equal, parity.max_difference
    print(
        f"{name}: {equal:.2f} % of {parity.rows:,} labels equal, probabilities within {difference:.1e} "
        f"(mean {parity.mean_difference:.1e})"
    )
    table = Table(box=None)
    table.add_column("")
    for column in ("MB", "ms, 1 text", "ms, 32 texts", "macro-F1"):
        table.add_column(column, justify="right")
    table.add_row("as it was", *_cells(parity.original))
    table.add_row(f"ONNX {parity.precision}", *_cells(parity.exported))
    ratio = parity.speedup
    size = parity.original.size_mb / parity.exported.size_mb
    before, after = parity.original.macro_f1, parity.exported.macro_f1
    change = "" if before is None or after is None else f"{after - before:+.4f}"
    table.add_row("ratio, change", f"{size:.1f}", f"{ratio[1]:.1f}", f"{ratio[32]:.1f}", change)
    Console(highlight=False).print(table)


def _cells(engine: Engine) -> list[str]:
    score = "-" if engine.macro_f1 is None else f"{engine.macro_f1:.4f}"
    return [f"{engine.size_mb:.1f}", f"{engine.milliseconds[1]:.1f}", f"{engine.milliseconds[32]:.1f}", score]


def _add_registry_parsers(commands: Any) -> None:
    register = commands.add_parser("register", help="register a run's model in MLflow's model registry")
    register.add_argument("run", help="run folder or name, or MLflow run id")
    register.add_argument("--name", required=True, help="of the registered model")
    register.add_argument("--alias", help="points to the new version from now on: champion, challenger, ...")
    register.set_defaults(handler=_register)

    promote = commands.add_parser("promote", help="register a run's model; champion only if it is better")
    promote.add_argument("run", help="run folder or name, or MLflow run id")
    promote.add_argument("--name", required=True, help="of the registered model")
    promote.add_argument("--split", choices=("val", "test"), default="val", help="rows to compare on (default: val)")
    promote.add_argument("--metric", default="macro_f1")
    promote.set_defaults(handler=_promote)

    drift = commands.add_parser("drift", help="do new texts look like those that a model was judged on?")
    drift.add_argument("model", help="run (folder, name, MLflow id)")
    _add_input_options(drift)
    drift.add_argument("--fail", action="store_true", help="exit with 1 when something has moved")
    drift.set_defaults(handler=_drift)


def _add_input_options(command: argparse.ArgumentParser) -> None:
    formats = ("csv", "tsv", "jsonl", "json", "text", "parquet", "xlsx", "ods")
    command.add_argument("file", nargs="?", default="-", help="a file that training reads too, or of texts; - is stdin")
    command.add_argument("--format", choices=formats, help="of the input (default: by its name; of stdin: text)")
    command.add_argument("--columns", help="columns or keys joined into the text: title,body (default: as in training)")
    command.add_argument("--no-header", action="store_true", help="the table has none: --columns 1,2 (from 0)")
    command.add_argument("--delimiter", type=_delimiter, help="one character, tab or auto (default: as in training)")
    command.add_argument(
        "--quoting", choices=("auto", "csv", "none"), help="whether quotes enclose fields (default: as in training)"
    )
    command.add_argument("--encoding", help="such as cp1252, or auto (default: as in training)")


def _delimiter(word: str) -> str:
    if word in ("auto", "tab") or (len(word) == 1 and word not in '\r\n"'):
        return word
    raise argparse.ArgumentTypeError(f"{word!r} is neither one character, tab nor auto")


def _columns(options: argparse.Namespace) -> list[str] | None:
    if options.columns is None:
        return None
    return [column.strip() for column in options.columns.split(",") if column.strip()] or None


def _source(options: argparse.Namespace, folder: Path) -> Source:
    from agnews_exp.serving.inputs import Asked, describe_source, recall_reading

    header = False if options.no_header else None
    asked = Asked(
        options.format, _columns(options), options.delimiter, options.quoting, options.encoding, header
    )  # fmt: skip
    return describe_source(options.file, asked, recall_reading(folder))


def _plain() -> dict[str, Any]:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    return to_plain(compose_config([]))


def _register(options: argparse.Namespace) -> None:
    from agnews_exp.serving.registry import register_run

    version = register_run(_plain(), options.run, options.name, options.alias)
    alias = f", {options.alias} from now on" if options.alias else ""
    print(f"{options.name} version {version}{alias}\nnext   agnews serve models:/{options.name}/{version}")


def _promote(options: argparse.Namespace) -> None:
    from agnews_exp.serving.registry import promote

    found = promote(_plain(), options.run, options.name, split=options.split, metric=options.metric)
    print(f"{options.name} version {found.version}: {'champion' if found.promoted else 'challenger'} ({found.reason})")
    if not found.promoted:
        sys.exit(1)
    print(f"next   agnews serve models:/{options.name}@champion")


def _drift(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.analyses.performing import FinishedRun
    from agnews_exp.core.numbers import format_number
    from agnews_exp.evaluation.drift import REFERENCE
    from agnews_exp.serving.models import find_model
    from agnews_exp.serving.registry import find_drift, write_reference
    from agnews_exp.tracking.runs import find_runs

    plain = _plain()
    found = find_model(plain, options.model)
    source = _source(options, found.folder)
    if not (found.folder / REFERENCE).is_file():
        (run,) = find_runs(plain, [options.model])
        write_reference(FinishedRun(run), found.folder)
    shifts, n, rejected = find_drift(found.load(), found.folder, source)
    table = Table(title=f"{found.name}: {n:,} texts ({rejected:,} rejected)", box=None, title_justify="left")
    for column in ("", "PSI", "p", "reference", "now", ""):
        table.add_column(column, justify="left" if not column else "right")
    for shift in shifts:
        numbers = f"{shift.psi:.3f}", format_number(shift.p_value, "p"), f"{shift.before:.3f}", f"{shift.now:.3f}"
        table.add_row(shift.name, *numbers, shift.verdict)
    Console(highlight=False).print(table)
    print("PSI: below .1 stable, from .25 on moved. p: Kolmogorov-Smirnov, for classes chi-squared.")
    if options.fail and any(shift.verdict == "moved" for shift in shifts):
        sys.exit(1)


def _add_answering_parsers(commands: Any) -> None:
    from agnews_exp.serving.http.limits import ServeSettings

    predict = commands.add_parser("predict", help="answer the texts of a file or of standard input")
    predict.add_argument("model", help="run (folder, name, MLflow id), model folder, or models:/name@alias")
    _add_input_options(predict)
    predict.add_argument("--output", type=Path, help=".csv, .jsonl or .parquet (default: JSON lines on stdout)")
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
    for command in (predict, serve):
        command.add_argument(
            "--sets",
            type=float,
            metavar="SHARE",
            help="0.95: also the classes that hold the right one in 95 %% of texts",
        )
        command.add_argument(
            "--no-costs",
            action="store_true",
            help="the model's own answers, though the run chose a rule by evaluation.costs",
        )
        command.add_argument(
            "--confirm", action="store_true", help="yes to sending texts to a language model's endpoint"
        )
        command.add_argument("--budget", type=float, help="the most that a language model's answers may cost")
    serve.epilog = "A bearer token is asked for when the environment variable AGNEWS_SERVE_TOKEN is set."
    serve.set_defaults(handler=_serve)


def _predict(options: argparse.Namespace) -> None:
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.serving.models import find_model
    from agnews_exp.serving.predicting import Answering, predict_stream, thresholds_of

    for name in ("top_k", "batch_size"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(options, name)}: it must be at least 1.")
    if options.explain < 0:
        raise ConfigError(f"--explain {options.explain}: it must be at least 1.")
    found = find_model(_plain(), options.model)
    source = _source(options, found.folder)
    model = found.load(options.device)
    _agree(options, model, source)
    sets = thresholds_of(found.folder, model.class_names, options.sets)
    decision = _decision(found.folder, model.class_names, options.no_costs)
    answering = Answering(
        options.top_k, options.probabilities, options.with_text, options.batch_size, options.explain, sets, decision
    )
    with _progress() as progress:
        outcome = predict_stream(
            source,
            model,
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

    from agnews_exp.config.targets import explain_validation
    from agnews_exp.core.errors import ConfigError, MissingDependencyError

    try:
        from agnews_exp.serving.http.app import serve
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"agnews serve needs {error.name}, which is not installed.", fix="pip install 'agnews-exp[serve]'"
        ) from error
    from agnews_exp.serving.http.limits import ServeSettings
    from agnews_exp.serving.models import find_model
    from agnews_exp.serving.predicting import thresholds_of

    values = {name: getattr(options, name) for name in ServeSettings.model_fields if name != "token"}
    try:
        settings = ServeSettings(**values, token=os.environ.get("AGNEWS_SERVE_TOKEN") or None)
    except ValidationError as error:
        raise ConfigError(f"agnews serve: {explain_validation(error)}") from error
    found = find_model(_plain(), options.model)
    model = found.load(options.device)
    _agree(options, model, None)
    sets = thresholds_of(found.folder, model.class_names, options.sets)
    decision = _decision(found.folder, model.class_names, options.no_costs)
    serve(
        model, found.name, settings, host=options.host, port=options.port, quiet=options.quiet, sets=sets,
        decision=decision,
    )  # fmt: skip


def _agree(options: argparse.Namespace, model: FittedModel, source: Source | None) -> None:
    """Ask before a language model's endpoint gets texts; of a stream or a server their number is not known."""
    if model.family not in ("llm", "cascade"):
        return
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.models.llm import language_models
    from agnews_exp.serving.inputs import read_items

    for part in language_models(model):
        if options.budget is not None:
            if options.budget < 0 or part.endpoint.prices is None:
                raise ConfigError(f"--budget {options.budget:g} needs an amount, and a model that was run with prices.")
            part.endpoint.budget = options.budget
        known = source is not None and source.path is not None
        texts = [item.text for item in read_items(source) if item.text is not None] if source and known else None
        about = " that the fast model is not sure of, at most," if model.family == "cascade" else ""
        part.agree(texts, confirm=options.confirm, how="--confirm", about=about)


def _decision(folder: Path, class_names: tuple[str, ...], off: bool) -> Decision | None:
    """Return the rule that the run chose by its costs, and say so; None where it is off or there is none."""
    from agnews_exp.serving.predicting import decision_of

    decision = None if off else decision_of(folder)
    if decision is not None:
        said = decision.said(class_names)
        print(f"costs    labels by the rule of the run's evaluation.costs ({said}); --no-costs: the model's own",
              file=sys.stderr)  # fmt: skip
    return decision


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Give a function that takes the number of rows that are done."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=None)
        yield lambda done: bar.update(task, completed=done)

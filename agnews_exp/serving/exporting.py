"""A network's model folder as an ONNX one, checked against the original before anybody relies on it."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError
from agnews_exp.evaluation.costs import DECISION
from agnews_exp.evaluation.efficiency import folder_size_mb
from agnews_exp.evaluation.metrics import macro_f1, margins_of
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import MULTICLASS, MULTILABEL, refuse_left_out
from agnews_exp.models.answers import FittedModel
from agnews_exp.models.loading import load_model
from agnews_exp.models.persistence import MANIFEST, add_json, read_manifest, write_manifest

REPORT = "export.json"
MIN_EQUAL = {"float32": 1.0, "int8": 0.995}
"""Share of labels that must be the original's."""
MAX_DIFFERENCE = 1e-4
"""Of probabilities, for float32."""
BATCH_SIZES = (1, 32)
_CALLS = {1: 30, 32: 4}


@dataclass(frozen=True)
class Engine:
    """Measurements of one of both models: time, size, score."""

    name: str  # ``original`` or ``onnx``
    size_mb: float  # of its folder
    milliseconds: dict[int, float]  # of a call, tokenising included, by batch size: the median
    macro_f1: float | None  # against the true classes, or None where those are not known


@dataclass(frozen=True)
class Parity:
    """An exported model beside its original."""

    precision: str  # ``float32`` or ``int8``
    rows: int  # texts that both answered
    labels_equal: float  # share of them with the same label
    max_difference: float  # largest difference of a probability
    mean_difference: float  # mean one
    original: Engine  # the model that was exported
    exported: Engine  # the new one

    @property
    def problems(self) -> list[str]:
        """The promises that the exported model breaks, in words; none when all is well."""
        found = []
        needed = MIN_EQUAL[self.precision]
        if self.labels_equal < needed:
            found.append(f"{100 * self.labels_equal:.2f} % of the labels are equal, not {100 * needed:g} %")
        if self.precision == "float32" and self.max_difference > MAX_DIFFERENCE:
            found.append(f"probabilities differ by up to {self.max_difference:.1e}, more than {MAX_DIFFERENCE:.0e}")
        return found

    @property
    def speedup(self) -> dict[int, float]:
        """By batch size: the original's time over the exported one's."""
        ours = self.exported.milliseconds
        return {size: value / ours[size] for size, value in self.original.milliseconds.items()}


class WorseInt8Error(AgnewsError):
    """An int8 model answers too many rows differently from the original."""


def export_model(
    source: Path,
    output: Path,
    texts: Sequence[str],
    labels: NDArray[np.int64] | None = None,
    *,
    int8: bool,
    force: bool = False,
) -> Parity:
    """Write a model folder of the onnx family (of a cascade, one whose networks are) and check it.

    All n texts are answered by both models, and the first become check rows of the new folder, which appears when it is
    complete and, if int8, good enough. ``labels``, shape (n,), are the true classes, where they are known.

    Raises:
        ConfigError: The model gains nothing from ONNX or cannot be said in it, or the folder is there already.
        WorseInt8Error: Fewer labels are equal than int8 must keep; nothing is written.
        MissingDependencyError: onnx or onnxruntime is not installed.
    """
    manifest = read_manifest(source)
    family = manifest["family"]
    refuse_left_out(MULTILABEL if "thresholds" in manifest else MULTICLASS, "export", source.parent.name)
    halves = ("fast", "accurate") if family == "cascade" else ()
    parts = [part for part in halves if read_manifest(source / part)["family"] == "transformer"]
    if family != "transformer" and not parts:
        raise _nothing_to_gain(source, family)
    if output.exists() and not force:
        raise ConfigError(f"{output} is there already.", fix="--force, or another --output")
    if output.exists() and not (output / MANIFEST).is_file():
        raise ConfigError(f"{output} is no model folder, so it is not replaced.", fix="another --output")
    _need_packages()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name:
        made = Path(name) / "model"
        if family == "transformer":
            _export_network(source, made, int8, texts)
        else:
            shutil.copytree(source, made)
            for part in parts:
                shutil.rmtree(made / part)
                _export_network(source / part, made / part, int8, texts)
            write_manifest(made, family, read_manifest(source)["class_names"])
        if family == "transformer" and (source / DECISION).is_file():  # of a cascade it is there already
            add_json(made, DECISION, json.loads((source / DECISION).read_text(encoding="utf-8")))
        parity = check_parity(source, made, texts, labels, precision="int8" if int8 else "float32")
        if int8 and parity.problems:
            raise WorseInt8Error(f"int8 is not good enough for {source}: {parity.problems[0]}.")
        if output.exists():
            shutil.rmtree(output)
        made.rename(output)
    return parity


def _nothing_to_gain(source: Path, family: str) -> ConfigError:
    why = {
        "onnx": "is an ONNX model already",
        "cascade": "has no network among its models",
    }.get(
        family, "is a scikit-learn pipeline: its n-grams are counted by compiled code that ONNX has no faster form of"
    )
    return ConfigError(
        f"{source} {why}.\n  exported are: transformers and small networks, and cascades that hold one",
        fix="agnews predict and agnews serve take the run as it is",
    )


def _need_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"agnews export needs {error.name}, which is not installed.", fix="pip install 'agnews-exp[onnx]'"
        ) from error


def _export_network(source: Path, folder: Path, int8: bool, texts: Sequence[str]) -> None:
    import onnx

    from agnews_exp.models.inference import load_predictor
    from agnews_exp.models.onnx_model import GRAPH, quantise, save_check, save_onnx, write_graph

    folder.mkdir(parents=True)
    predictor = load_predictor(source, "cpu")
    write_graph(predictor, folder / GRAPH)
    if int8:
        model = onnx.load(str(folder / GRAPH))
        if not quantise(model):
            raise ConfigError(f"{source} has no matrix product or table that int8 could serve.", fix="leave out --int8")
        onnx.save(model, str(folder / GRAPH))
    precision: Any = "int8" if int8 else "float32"
    names, length = predictor.class_names, predictor.max_length
    save_onnx(folder, source, predictor.tokenizer, names, max_length=length, precision=precision)
    save_check(folder, texts)


def check_parity(
    source: Path, exported: Path, texts: Sequence[str], labels: NDArray[np.int64] | None, *, precision: str
) -> Parity:
    """Answer n texts with both models, time both in turn, and write export.json into the exported folder."""
    models = {"original": load_model(source, "cpu"), "onnx": load_model(exported, "cpu")}
    answers = {name: model.predict(texts) for name, model in models.items()}
    times = _times(models, texts)
    before, after = answers.values()
    sizes = {"original": folder_size_mb(source), "onnx": folder_size_mb(exported)}
    names = models["original"].class_names
    engines = [
        Engine(name, sizes[name], times[name], _macro_f1(answers[name], labels, names)) for name in ("original", "onnx")
    ]
    assert before.probabilities is not None
    assert after.probabilities is not None
    differences = np.abs(before.probabilities - after.probabilities)
    equal = float((before.labels == after.labels).mean())
    parity = Parity(precision, len(texts), equal, float(differences.max()), float(differences.mean()), *engines)
    add_json(exported, REPORT, asdict(parity) | {"problems": parity.problems, "speedup": parity.speedup})
    return parity


def _macro_f1(answers: Predictions, labels: NDArray[np.int64] | None, names: tuple[str, ...]) -> float | None:
    return None if labels is None else float(macro_f1(margins_of(labels, answers.labels, len(names))))


def _times(models: dict[str, FittedModel], texts: Sequence[str]) -> dict[str, dict[int, float]]:
    """Return each model's milliseconds a call by batch size; the models take turns, so a busy machine hits both."""
    found: dict[str, dict[int, float]] = {name: {} for name in models}
    for size in BATCH_SIZES:
        spent: dict[str, list[float]] = {name: [] for name in models}
        for call in range(_CALLS[size]):
            batch = [texts[(call * size + i) % len(texts)] for i in range(size)]
            for name, model in models.items():
                start = time.perf_counter()
                model.predict(batch)
                spent[name].append(1000 * (time.perf_counter() - start))
        for name, values in spent.items():
            found[name][size] = statistics.median(values)
    return found

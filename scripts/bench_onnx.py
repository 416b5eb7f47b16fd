"""A transformer answered by PyTorch and by onnxruntime: texts a second, size, and how many answers are the same.

    python scripts/bench_onnx.py RUN                       # a finished run of a transformer
    python scripts/bench_onnx.py --random                  # DistilBERT's shape, random weights, the bundled sample

Engines: PyTorch float32 eager (attention as plain products), PyTorch float32 with its fused attention (as `agnews
predict` runs it), PyTorch with our packing (no padding), PyTorch bfloat16 where the processor has it, ONNX float32,
ONNX int8, and onnxruntime's own dynamic int8. All get the same token batches: batch 1 as the texts come, batch 32
sorted by length. Engines take turns; ratios are of CPU seconds (--wall: of elapsed time), fastest repeat.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agnews_exp.analyses.performing import FinishedRun
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import to_plain
from agnews_exp.data.batching import evaluation_batches, framed_lengths, padded_ids
from agnews_exp.data.bundled import load_sample
from agnews_exp.data.tokens import frame_of, tokenize
from agnews_exp.models.encoders import build_network, load_tokenizer, pack_encoder
from agnews_exp.models.inference import TextPredictor, load_predictor, save_predictor
from agnews_exp.models.onnx_model import GRAPH, load_onnx
from agnews_exp.models.recipes import ScratchEncoder
from agnews_exp.serving.exporting import export_model
from agnews_exp.serving.models import find_model
from agnews_exp.tracking.record import RunFolder

Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
Engine = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


def main() -> None:
    """Run the engines and print the table."""
    options = read_options()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder, texts = prepare(options, Path(name))
        engines, sizes = build(folder, texts, Path(name), library=not options.random)
        tokens = load_predictor(folder, "cpu")
        clock = time.perf_counter if options.wall else time.process_time
        print(f"{len(texts)} texts, {options.threads} threads, {'elapsed' if options.wall else 'CPU'} seconds")
        print(
            f"{'engine':30} {'MB':>6} " + "".join(f"{f'batch {n}':>12} {'ratio':>6}" for n in options.batch_sizes),
            end="",
        )
        print(f"{'same label':>12} {'max |dp|':>9}")
        rates: dict[int, dict[str, float]] = {}
        answers: dict[str, NDArray[np.float64]] = {}
        for size in options.batch_sizes:
            part = texts if size > 1 else texts[: options.singles]
            rates[size], found = measure(engines, batches_of(tokens, part, size), len(part), options.repeats, clock)
            if len(part) == len(texts):
                answers = found
        reference = answers["PyTorch float32 eager"]
        for engine in engines:
            cells = [
                f"{rates[n][engine]:12.1f} {rates[n][engine] / rates[n]['PyTorch float32 eager']:6.2f}" for n in rates
            ]
            same = 100 * float((answers[engine].argmax(1) == reference.argmax(1)).mean())
            difference = float(np.abs(answers[engine] - reference).max())
            print(f"{engine:30} {sizes.get(engine, sizes['']):6.1f} {''.join(cells)}{same:11.2f}% {difference:9.1e}")


def read_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a finished run of a transformer")
    parser.add_argument("--random", action="store_true", help="DistilBERT's shape with random weights (no run)")
    parser.add_argument("--rows", type=int, default=256, help="texts of the larger batches: validation rows of the run")
    parser.add_argument("--singles", type=int, default=64, help="texts that are answered one by one")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wall", action="store_true", help="elapsed time; for a machine with nothing else to do")
    options = parser.parse_args()
    if bool(options.run) == options.random:
        parser.error("give a run, or --random")
    return options


def prepare(options: argparse.Namespace, scratch: Path) -> tuple[Path, list[str]]:
    """Return a transformer's model folder and the texts to answer."""
    if not options.random:
        found = find_model(to_plain(compose_config([])), options.run)
        rows = FinishedRun(RunFolder(found.folder.parent)).splits.validation
        chosen = np.random.default_rng(0).permutation(len(rows))[: options.rows]
        return found.folder, rows.take(chosen).texts
    texts = load_sample().train.texts
    recipe = ScratchEncoder()
    tokenizer = load_tokenizer(recipe, texts)
    names = ("World", "Sports", "Business", "Sci/Tech")
    torch.manual_seed(0)
    network = build_network(recipe, tokenizer, names)
    save_predictor(TextPredictor(network, tokenizer, names, 256, torch.device("cpu")), recipe, scratch / "random")
    # Two sample articles together have about the length of an AG News article.
    return scratch / "random", [f"{a} {b}" for a, b in zip(texts[::2], texts[1::2], strict=False)][: options.rows]


def build(
    folder: Path, texts: list[str], scratch: Path, *, library: bool
) -> tuple[dict[str, Engine], dict[str, float]]:
    """Return the engines by name, and the size of each one's weights in MB (the name '' stands for the others)."""
    engines: dict[str, Engine] = {}
    for name, attention in (("PyTorch float32 eager", "eager"), ("PyTorch float32 fused attention", "sdpa")):
        network: Any = load_predictor(folder, "cpu").network.eval()
        network.encoder.set_attn_implementation(attention)
        engines[name] = torch_engine(network)
    packed: Any = load_predictor(folder, "cpu").network.eval()
    pack_encoder(packed.encoder, accelerator="cpu", precision="32-true", attention_dropout=0.0)
    engines["PyTorch float32 packed"] = torch_engine(packed)
    engines["PyTorch bfloat16"] = torch_engine(load_predictor(folder, "cpu").network.eval(), torch.bfloat16)
    sizes = {"": (folder / "model.safetensors").stat().st_size / 1e6}
    for name, int8 in (("ONNX float32", False), ("ONNX int8", True)):
        export_model(folder, scratch / name, texts, int8=int8)
        engines[name] = onnx_engine(scratch / name)
        sizes[name] = (scratch / name / GRAPH).stat().st_size / 1e6
    if library:
        engines["onnxruntime dynamic int8"], size = library_engine(scratch)
        sizes["onnxruntime dynamic int8"] = size
    return engines, sizes


def torch_engine(network: Any, precision: torch.dtype | None = None) -> Engine:
    """Return a network as a function of token batches."""

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            logits: NDArray[np.float32] = network(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()
        return logits

    return run


def onnx_engine(folder: Path) -> Engine:
    """Return an exported folder's session as a function of token batches."""
    session = load_onnx(folder).session
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def library_engine(scratch: Path) -> tuple[Engine, float]:
    """Return what quantize_dynamic makes of the same float32 graph, and its size in MB."""
    import logging

    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = scratch / "library.onnx"
    shutil.copyfile(scratch / "ONNX float32" / GRAPH, path)
    logging.disable(logging.WARNING)
    extra = {"DefaultTensorType": 1}
    quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True, extra_options=extra)
    logging.disable(logging.NOTSET)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    run: Engine = lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]  # noqa: E731
    return run, path.stat().st_size / 1e6


def batches_of(predictor: TextPredictor, texts: list[str], size: int) -> list[Batch]:
    """Return token batches with the rows that are in each."""
    table, frame = tokenize(texts, predictor.tokenizer, None), frame_of(predictor.tokenizer)
    rows = evaluation_batches(framed_lengths(table, frame, predictor.max_length), size, None)
    return [(part, *padded_ids(table, part, frame, predictor.max_length)) for part in rows]


def measure(
    engines: dict[str, Engine], batches: list[Batch], n: int, repeats: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Return texts a second of each engine's fastest repeat, and its probabilities."""
    best = dict.fromkeys(engines, float("inf"))
    answers: dict[str, NDArray[np.float64]] = {}
    for repeat in range(repeats + 1):
        for name, engine in engines.items():
            begin = clock()
            parts = [engine(ids, mask) for _, ids, mask in batches]
            seconds = clock() - begin
            if repeat:  # the first is a warm-up
                best[name] = min(best[name], seconds)
                continue
            logits = np.zeros((n, parts[0].shape[1]))
            for (rows, _, _), part in zip(batches, parts, strict=True):
                logits[rows] = part
            exponentials = np.exp(logits - logits.max(1, keepdims=True))
            answers[name] = exponentials / exponentials.sum(1, keepdims=True)
    return {name: n / seconds for name, seconds in best.items()}, answers


if __name__ == "__main__":
    main()

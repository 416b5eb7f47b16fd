"""Our training step against the Hugging Face Trainer: the same model, rows, precision and device.

    python scripts/bench_transformer.py                                   # minilm, CPU, a few minutes
    python scripts/bench_transformer.py --model distilbert --random --rows 8192 --precision bf16

Arms: ours (attention and dropout as our trainer chooses them for the device); (a) the Trainer as its
text-classification example sets it up, every text padded to --max-length; (b) the Trainer with dynamic padding and
group_by_length, both with the library's default kernels. Prints samples/s, processor seconds of the training steps
(which other programs on the machine disturb less than the wall's), tokens/s, model FLOP utilisation (of the data
sheet's peak, or of a large matrix product measured here), the final loss on held-out rows, and the ratios, each a
median. The Trainer needs the package accelerate (extra bench); without it ours runs alone.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformer_flops import peak_flops, training_flops

from agnews_exp.config.compose import compose_config
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import check_config
from agnews_exp.data.batching import derive_seed
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.datamodule import EncodedRows
from agnews_exp.data.tokens import frame_of, tokenize
from agnews_exp.models.encoders import build_network, choose_attention, load_tokenizer
from agnews_exp.models.inference import TextPredictor
from agnews_exp.models.recipes import Recipe, ScratchEncoder
from agnews_exp.runners.callbacks import CheckpointFolder
from agnews_exp.runners.devices import choose_hardware, set_threads
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits
from agnews_exp.runners.training import Job, Listeners, new_network, planned_steps, train


def main() -> None:
    """Run the arms and print the table."""
    options = read_options()
    logging.getLogger("agnews_exp").setLevel(logging.WARNING)
    job, held_out, texts = prepare(options)
    arms: dict[str, Callable[[], dict[str, float]]] = {"ours": lambda: run_ours(job, held_out)}
    try:
        import accelerate  # noqa: F401
    except ImportError:
        print("The package accelerate is missing (pip install 'agnews-exp[bench]'): the Trainer's arms are left out.")
    else:
        arms["trainer, padded"] = lambda: run_trainer(job, held_out, texts, options, dynamic=False)
        arms["trainer, dynamic"] = lambda: run_trainer(job, held_out, texts, options, dynamic=True)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for _ in range(options.repeats):
        for name, arm in arms.items():  # in turn, so that a slow minute of the machine hits all of them
            results[name].append(arm())
    report(results, job, options)


def read_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="a choice of conf/model")
    parser.add_argument("--random", action="store_true", help="DistilBERT's shape with random weights (no hub)")
    parser.add_argument("--data", default="auto", help="a choice of conf/data")
    parser.add_argument("--rows", type=int, default=512, help="training rows")
    parser.add_argument("--held-out", type=int, default=256, help="rows of the final loss")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--same-attention", action="store_true", help="give the Trainer our choice of attention kernel")
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    parser.add_argument("--peak-tflops", type=float, help="the device's dense peak, where the table has none")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("overrides", nargs="*", help="further overrides, such as model.compile=true")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[Job, EncodedRows, list[str]]:
    """Load rows and tokenise them once for all arms."""
    checked = check_config(
        compose_config(
            [
                f"model={'scratch' if options.random else options.model}",
                f"data={options.data}",
                f"model.max_length={options.max_length}",
                "trainer.max_epochs=1",
                f"trainer.batch_size={options.batch_size}",
                f"trainer.precision={options.precision}",
                f"trainer.accelerator={options.accelerator}",
                "trainer.limit_val_batches=1",
                "trainer.checkpoint_every_seconds=null",
                "tracking=none",
                *options.overrides,
            ]
        )
    )
    splits = load_splits(checked, Stages(quiet=True))
    order = np.random.default_rng(0).permutation(len(splits.train))[: options.rows]
    rows, held_out = splits.train.take(order), splits.validation.take(np.arange(options.held_out))
    recipe: Recipe = safe_instantiate(checked.component("model"), "model")
    settings = checked.run.trainer
    tokenizer = load_tokenizer(recipe, splits.train.texts)
    set_threads(settings.n_jobs, 1)

    def encoded(part: TextRows) -> EncodedRows:
        table = tokenize(part.texts, tokenizer, None)
        return EncodedRows(table, part.labels, frame_of(tokenizer), recipe.max_length)

    job = Job(
        recipe=recipe,
        settings=settings,
        hardware=choose_hardware(settings, large=recipe.large),
        tokenizer=tokenizer,
        class_names=splits.class_names,
        train=encoded(rows),
        validation=encoded(held_out),
        checkpoints=CheckpointFolder(Path("unused"), ""),
        seed=checked.run.seed,
    )
    return job, encoded(held_out), rows.texts


def run_ours(job: Job, held_out: EncodedRows) -> dict[str, float]:
    """Train one epoch with our loop, all its callbacks included."""
    from dataclasses import replace

    with tempfile.TemporaryDirectory() as name:
        checkpoints = CheckpointFolder(Path(name), "benchmark")
        checkpoints.path.mkdir()
        started = replace(job, checkpoints=checkpoints)
        summary = train(started, Listeners())
        best = checkpoints.best()
        assert best is not None
        network = new_network(job)
        network.load_state_dict(best[0])
    tokens = float(job.train.lengths.sum())
    seconds = len(job.train) / summary["train_samples_per_second"]
    return measures(job, seconds, summary["train_processor_seconds"], tokens) | {
        "loss": final_loss(job, network, held_out)
    }


def run_trainer(
    job: Job, held_out: EncodedRows, texts: list[str], options: argparse.Namespace, *, dynamic: bool
) -> dict[str, float]:
    """Train one epoch with the Hugging Face Trainer on the same network, learning rate and schedule."""
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        """Adds up the time between step begin and step end, as ours does."""

        seconds = processor = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start, self.processor_start = time.perf_counter(), time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - self.start
            self.processor += time.process_time() - self.processor_start

    padding = "max_length" if not dynamic else False
    encoded = job.tokenizer(texts, truncation=True, max_length=options.max_length, padding=padding)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": int(label)}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], job.train.labels, strict=True)
    ]
    recipe = job.recipe
    # The same weights as ours, without what our trainer does to a network: the library's own kernels throughout.
    torch.manual_seed(derive_seed("network", job.seed))
    network: Any = build_network(recipe, job.tokenizer, job.class_names).train()
    if options.same_attention:
        choose_attention(network.encoder, "auto", job.hardware.accelerator)
    model = _ForTrainer(network)
    grouping: dict[str, Any] = {}
    if dynamic:  # the option's name has changed between versions
        known = "train_sampling_strategy" in inspect.signature(TrainingArguments).parameters
        grouping = {"train_sampling_strategy": "group_by_length"} if known else {"group_by_length": True}
    steps = planned_steps(job.settings, -(-len(rows) // options.batch_size))
    with tempfile.TemporaryDirectory() as name:
        arguments = TrainingArguments(
            output_dir=name,
            num_train_epochs=1,
            per_device_train_batch_size=options.batch_size,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_steps=math.ceil(recipe.warmup_ratio * steps),
            lr_scheduler_type="linear",
            bf16=job.hardware.precision.startswith("bf16"),
            fp16=job.hardware.precision.startswith("16"),
            use_cpu=job.hardware.accelerator == "cpu",
            logging_steps=job.settings.log_every_n_steps,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=job.seed,
            **grouping,
        )
        clock = Clock()
        collator = DataCollatorWithPadding(job.tokenizer) if dynamic else None
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=[clock])
        trainer.train()
    tokens = float(job.train.lengths.sum())
    return measures(job, clock.seconds, clock.processor, tokens) | {"loss": final_loss(job, model.network, held_out)}


class _ForTrainer(torch.nn.Module):
    """Our network as the Trainer wants one: labels in, loss out."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = self.network(input_ids, attention_mask)
        return {"loss": torch.nn.functional.cross_entropy(logits.float(), labels), "logits": logits}


def measures(job: Job, seconds: float, processor: float, tokens: float) -> dict[str, float]:
    """Return throughput and FLOP/s; padding is no work done, so only real tokens count for every arm."""
    return {
        "processor_seconds": processor,
        "samples_per_second": len(job.train) / seconds,
        "tokens_per_second": tokens / seconds,
        "flops": training_flops(job) / seconds,
    }


def final_loss(job: Job, network: torch.nn.Module, held_out: EncodedRows) -> float:
    """Return the cross-entropy on rows that no arm has trained on."""
    recipe = job.recipe
    predictor = TextPredictor(network, job.tokenizer, job.class_names, recipe.max_length, job.hardware.device())
    logits = torch.from_numpy(predictor.logits(held_out.table))
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(held_out.labels)))


def report(results: dict[str, list[dict[str, float]]], job: Job, options: argparse.Namespace) -> None:
    """Print the table and the ratios."""
    device = torch.cuda.get_device_name() if job.hardware.accelerator == "cuda" else "CPU"
    peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_flops(device, job)
    medians = {arm: {k: float(np.median([r[k] for r in runs])) for k in runs[0]} for arm, runs in results.items()}
    name = "DistilBERT, random weights" if isinstance(job.recipe, ScratchEncoder) else options.model
    print(f"\n{name}, {len(job.train)} rows, batch {options.batch_size}, {job.hardware.precision}, {device}")
    print(f"{'arm':18}{'samples/s':>11}{'processor s':>13}{'tokens/s':>11}{'TFLOP/s':>9}{'MFU':>7}{'final loss':>12}")
    for arm, m in medians.items():
        share = f"{m['flops'] / peak:.1%}" if peak else "-"
        print(
            f"{arm:18}{m['samples_per_second']:11.1f}{m['processor_seconds']:13.1f}{m['tokens_per_second']:11,.0f}"
            f"{m['flops'] / 1e12:9.2f}{share:>7}{m['loss']:12.4f}"
        )
    ours = medians["ours"]
    ratios = {
        arm: {
            "wall": ours["samples_per_second"] / m["samples_per_second"],
            "processor": m["processor_seconds"] / ours["processor_seconds"],
        }
        for arm, m in medians.items()
        if arm != "ours"
    }
    for arm, ratio in ratios.items():
        print(f"ours against {arm}: {ratio['wall']:.2f} times in wall, {ratio['processor']:.2f} in processor seconds")
    if options.json:
        content = {"device": device, "precision": job.hardware.precision, "arms": medians, "ratios": ratios}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What a run's model costs to use: time, memory, size, energy and money, measured on this machine."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from agnews_exp.config.errors import MissingDependencyError, unknown_name
from agnews_exp.evaluation.efficiency import Latency, cost_per_million, folder_size_mb, measure_latency
from agnews_exp.evaluation.efficiency_energy import Energy, measure_energy
from agnews_exp.models.cold_start import ColdStart, measure_cold_start
from agnews_exp.reporting.analyses.context import AnalysisContext, Findings
from agnews_exp.reporting.figures import new_figure, open_frame, save_png
from agnews_exp.tracking.environment import describe_environment
from agnews_exp.tracking.record import MODEL

COST_FORMULA = "cost per million = price per hour x 1,000,000 / (texts per second x 3,600 x utilisation)"
_TRAINING = ("features", "tokenise", "fit")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"


def analyse(
    context: AnalysisContext,
    *,
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], Field(min_length=1)] = (1, 8, 64, 256),
    seconds: Annotated[float, Field(gt=0)] = 3.0,
    min_calls: Annotated[int, Field(ge=2)] = 20,
    cold_starts: Annotated[int, Field(ge=0)] = 3,
    energy_seconds: Annotated[float, Field(ge=0)] = 10.0,
    country: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None,
    prices: Mapping[str, Annotated[float, Field(ge=0)] | None] | None = None,
    machine: str = "here",
    currency: str = "EUR",
    utilisation: Annotated[float, Field(gt=0, le=1)] = 1.0,
) -> Findings:
    """Measure a run's model on validation texts.

    Args:
        context: The run.
        batch_sizes: Texts in a call.
        seconds: Measure each batch size for so long at least,
        min_calls: and so many calls.
        cold_starts: Fresh processes; 0 leaves them out.
        energy_seconds: Answer texts for so long under codecarbon; 0 leaves it out.
        country: ISO code of three letters, for emissions.
        prices: Machine to price of one of its hours; null is unknown.
        machine: The machine of the table that this one is.
        currency: Of the prices.
        utilisation: Share of the paid hours in which the machine answers.

    Returns:
        ``latency_p50_ms_<batch size>``, ``latency_p95_ms_...``, ``throughput_...``, ``cold_start_s``,
        ``serving_rss_mb`` and, where they could be had, ``serving_gpu_mb``, ``kwh_per_million``, ``cost_per_million``.

    Raises:
        ConfigError: ``machine`` is not in the price table.
    """
    table = dict(prices or {})
    if table and machine not in table:
        raise unknown_name("machine in prices", machine, list(table))
    texts = context.splits.validation.texts
    predict = context.model.predict
    latencies = [
        measure_latency(predict, texts, size, seconds=seconds, min_calls=min_calls)
        for size in dict.fromkeys(batch_sizes)
    ]
    fastest = max(latencies, key=lambda one: one.throughput)
    run = context.folder.parents[1]
    starts = _cold_starts(run / MODEL, texts, fastest.batch_size, cold_starts)
    energy, no_energy = _energy(context, fastest.batch_size, energy_seconds, country)
    price = table.get(machine)
    cost = None if price is None else cost_per_million(price, fastest.throughput, utilisation)
    training = _training(context.timings)
    machine_facts = _machine(context)
    _draw(context.folder / "latency.png", latencies)

    metrics = _metrics(latencies, starts, energy, cost)
    facts = {
        "machine": machine_facts,
        "latency": [asdict(one) for one in latencies],
        "cold_starts": [asdict(one) for one in starts],
        "model_size_mb": folder_size_mb(run / MODEL),
        "training": training,
        "energy": None if energy is None else asdict(energy) | {"kwh_per_million": energy.kwh_per_million},
        "energy_reason": no_energy,
        "cost": {
            "formula": COST_FORMULA,
            "machine": machine,
            "price_per_hour": price,
            "currency": currency,
            "utilisation": utilisation,
            "throughput": fastest.throughput,
            "batch_size": fastest.batch_size,
            "per_million": cost,
        },
    }
    return Findings(metrics, _summary(facts, latencies, starts, energy), facts)


def _cold_starts(folder: Path, texts: Sequence[str], batch_size: int, n: int) -> list[ColdStart]:
    batch = [texts[i % len(texts)] for i in range(batch_size)]
    return [measure_cold_start(folder, texts[i % len(texts)], batch) for i in range(n)]


def _energy(
    context: AnalysisContext, batch_size: int, seconds: float, country: str | None
) -> tuple[Energy | None, str | None]:
    """Return the energy of answering, or the reason why there is none."""
    if not seconds:
        return None, "not asked for (energy_seconds=0)"
    texts = context.splits.validation.texts
    batch = [texts[i % len(texts)] for i in range(batch_size)]

    def work() -> int:
        context.model.predict(batch)
        return len(batch)

    try:
        return measure_energy(work, seconds=seconds, country=country), None
    except MissingDependencyError as error:
        return None, f"{error.message} fix: {error.fix}"


def _training(timings: Mapping[str, float]) -> dict[str, Any]:
    """Return the seconds of the stages of training; empty where there were none, as for a cascade."""
    stages = {name: float(timings[name]) for name in timings if name.split("/")[0] in _TRAINING}
    return {"stages": stages, "seconds": sum(stages.values()), "all_timings": dict(timings)} if stages else {}


def _machine(context: AnalysisContext) -> dict[str, Any]:
    environment = describe_environment(Path(context.checked.run.paths.root_dir))
    device = getattr(context.model, "device", None)
    facts = {key: environment[key] for key in ("cpu", "cpu_cores", "memory_gb", "platform", "python")}
    facts["device"] = str(device) if device is not None else "cpu"
    if facts["device"].startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    if "torch" in sys.modules:
        import torch

        facts["torch_threads"] = torch.get_num_threads()
    return facts


def _metrics(
    latencies: Sequence[Latency], starts: Sequence[ColdStart], energy: Energy | None, cost: float | None
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for one in latencies:
        metrics[f"latency_p50_ms_{one.batch_size}"] = one.p50_ms
        metrics[f"latency_p95_ms_{one.batch_size}"] = one.p95_ms
        if one.p99_ms is not None:
            metrics[f"latency_p99_ms_{one.batch_size}"] = one.p99_ms
        metrics[f"throughput_{one.batch_size}"] = one.throughput
    if starts:
        metrics["cold_start_s"] = statistics.median(one.seconds for one in starts)
        metrics["serving_rss_mb"] = max(one.peak_rss_batch_mb for one in starts)
        if gpu := [one.peak_gpu_mb for one in starts if one.peak_gpu_mb is not None]:
            metrics["serving_gpu_mb"] = max(gpu)
    if energy is not None:
        metrics["kwh_per_million"] = energy.kwh_per_million
    if cost is not None:
        metrics["cost_per_million"] = cost
    return metrics


def _summary(
    facts: Mapping[str, Any], latencies: Sequence[Latency], starts: Sequence[ColdStart], energy: Energy | None
) -> str:
    machine = facts["machine"]
    where = f"{machine['cpu']}, {machine['cpu_cores']} cores, {machine['memory_gb']} GB, device {machine['device']}"
    lines = [
        f"Measured on {where}: validation texts, features included, calls one after the other.",
        "",
        "| batch size | calls | p50 ms | p95 ms | p99 ms | texts/s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for one in latencies:
        p99 = "too few calls" if one.p99_ms is None else f"{one.p99_ms:.2f}"
        lines.append(
            f"| {one.batch_size} | {one.calls} | {one.p50_ms:.2f} | {one.p95_ms:.2f} | {p99} | {one.throughput:,.0f} |"
        )
    lines += ["", "| what | value | how |", "|---|---:|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(facts, starts, energy)]
    return "\n".join(lines)


def _rows(facts: Mapping[str, Any], starts: Sequence[ColdStart], energy: Energy | None) -> list[tuple[str, str, str]]:
    rows = [("size on disk", f"{facts['model_size_mb']:.1f} MiB", "all files of the model folder")]
    if starts:
        one = sorted(starts, key=lambda start: start.seconds)[len(starts) // 2]
        how = f"median of {len(starts)} fresh processes, files in the system's cache: import {one.import_s:.2f} s, "
        rows.append(
            (
                "cold start",
                f"{one.seconds:.2f} s",
                f"{how}load {one.load_s:.2f} s, first text {one.first_answer_s:.2f} s",
            )
        )
        size = facts["cost"]["batch_size"]
        rows.append(("peak memory, one text", f"{one.peak_rss_one_mb:,.0f} MiB", "resident, in that process"))
        rows.append((f"peak memory, batch of {size}", f"{one.peak_rss_batch_mb:,.0f} MiB", "resident, in that process"))
        gpu = "none used" if one.peak_gpu_mb is None else f"{one.peak_gpu_mb:,.0f} MiB"
        rows.append(("peak GPU memory", gpu, "torch's allocator, in that process"))
    training = facts["training"]
    if training:
        stages = ", ".join(f"{name} {value:.1f} s" for name, value in training["stages"].items())
        rows.append(("training", f"{training['seconds']:.1f} s", f"stages of the run: {stages}"))
    else:
        rows.append(("training", "-", "nothing was trained in this run"))
    return [*rows, *_energy_rows(facts, energy), _cost_row(facts["cost"])]


def _energy_rows(facts: Mapping[str, Any], energy: Energy | None) -> list[tuple[str, str, str]]:
    if energy is None:
        return [("energy", "-", str(facts["energy_reason"]))]
    kind = "CPU by power meter" if energy.metered else "no power meter here: codecarbon's estimate from load"
    how = f"{kind}; {energy.source}; whole machine, {energy.items:,} texts in {energy.seconds:.0f} s"
    rows = [("energy per million texts", f"{energy.kwh_per_million:.3g} kWh", how)]
    if energy.kg_co2e is not None:
        rows.append(
            ("emissions per million", f"{energy.kg_co2e / energy.items * 1e6:.3g} kg CO2e", "at the grid's mean")
        )
    return rows


def _cost_row(cost: Mapping[str, Any]) -> tuple[str, str, str]:
    if cost["per_million"] is None:
        fix = f"set prices.{cost['machine']}=<price of one hour>"
        return ("cost per million texts", "-", f"{COST_FORMULA}; no price: {fix}")
    filled = (
        f"{COST_FORMULA} = {cost['price_per_hour']:g} x 1,000,000 / ({cost['throughput']:,.1f} x 3,600 x "
        f"{cost['utilisation']:g})"
    )
    return ("cost per million texts", f"{cost['per_million']:.4g} {cost['currency']}", filled)


def _draw(path: Path, latencies: Sequence[Latency]) -> None:
    """Draw percentiles of latency and throughput against the batch size."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = new_figure(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    ordered = sorted(latencies, key=lambda one: one.batch_size)
    sizes = [one.batch_size for one in ordered]
    for name, colour, marker in (("p50", BLUE, "o"), ("p95", ORANGE, "s"), ("p99", GREEN, "^")):
        points = [(one.batch_size, getattr(one, f"{name}_ms")) for one in ordered]
        shown = [(size, value) for size, value in points if value is not None]
        if shown:
            left.plot(*zip(*shown, strict=True), color=colour, marker=marker, label=name)
    left.set(xscale="log", yscale="log", xlabel="texts in a call", ylabel="time of a call (ms)")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.legend(frameon=False)
    right.plot(sizes, [one.throughput for one in ordered], color=BLUE, marker="o")
    right.set(xscale="log", xlabel="texts in a call", ylabel="throughput (texts/s)", ylim=(0, None))
    for axes in (left, right):
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(color="#DDDDDD", linewidth=0.6)
        open_frame(axes)
    save_png(figure, path)

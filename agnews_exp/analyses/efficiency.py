"""The cost of using a run's model: time, memory, size, energy and money, measured on this machine."""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from agnews_exp.analyses.findings import Column, Columns, Findings, Table
from agnews_exp.analyses.performing import AnalysisContext, analysis
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError, needs, unknown_name
from agnews_exp.core.numbers import plural
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.efficiency import Latency, cost_per_million, folder_size_mb, measure_latency
from agnews_exp.models.llm import language_models
from agnews_exp.tracking.environment import describe_environment
from agnews_exp.tracking.record import MODEL

_ANY_COUNTRY = "USA"  # codecarbon wants one; energy does not depend on it, and emissions are then not reported
_METERED = ("intel_rapl", "intel_power_gadget", "powermetrics")


@dataclass(frozen=True)
class Energy:
    """The energy that a piece of work took."""

    kwh: float  # of the whole machine, CPU, GPU and memory
    seconds: float  # how long it took
    items: int  # how many items it answered
    # Whether the CPU's part comes from a power meter; else codecarbon estimates it from the load and the processor's
    # nominal power. Memory is always estimated from its size.
    metered: bool
    source: str  # the meters and models that codecarbon used, in words
    kg_co2e: float | None  # emissions at the country's grid; None without a country

    @property
    def kwh_per_million(self) -> float:
        """Energy of a million items."""
        return self.kwh / self.items * 1e6


def measure_energy(work: Callable[[], int], *, seconds: float, country: str | None = None) -> Energy:
    """Repeat a piece of work for so many seconds at least and measure the machine's energy meanwhile.

    ``work`` returns how many items it answered; ``country`` is an ISO code of three letters, for emissions.

    Raises:
        MissingDependencyError: codecarbon is not installed.
    """
    with needs("codecarbon", "Energy", "'agnews-exp[energy]'"):
        from codecarbon import OfflineEmissionsTracker
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    tracker: Any = OfflineEmissionsTracker(
        country_iso_code=country or _ANY_COUNTRY, save_to_file=False, log_level="error", measure_power_secs=1,
        allow_multiple_runs=True,
    )  # fmt: skip
    items = 0
    work()
    tracker.start()
    try:
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            items += work()
    finally:
        kg = tracker.stop()
    found = tracker.final_emissions_data
    # Private: codecarbon says nowhere in public by which meter it measured the processor.
    modes = [str(getattr(part, "_mode", "")) for part in tracker._hardware if type(part).__name__ == "CPU"]
    metered = bool(modes) and all(mode in _METERED for mode in modes)
    parts = ", ".join(str(part) for part in tracker._conf.get("hardware", ()))
    return Energy(float(found.energy_consumed), elapsed, items, metered, parts, float(kg) if country and kg else None)


@dataclass(frozen=True)
class ColdStart:
    """One start of a model in a process of its own; the files may lie in the system's cache."""

    seconds: float  # from starting the process until the first answer has come back
    import_s: float  # of these, importing the code that loads models
    load_s: float  # loading the model
    first_answer_s: float  # answering the first text
    peak_rss_one_mb: float  # peak resident memory after one text, MiB
    peak_rss_batch_mb: float  # the same after a batch
    peak_gpu_mb: float | None  # peak memory that the GPU's allocator gave out, MiB; None without a GPU


def measure_cold_start(folder: Path, first: str, batch: Sequence[str]) -> ColdStart:
    """Start a process that loads a model folder and answers the first text, then a batch in one call.

    Raises:
        AgnewsError: The process failed; the message has its last line.
    """
    command = [sys.executable, "-P", "-m", "agnews_exp.analyses.efficiency", str(folder)]
    request = json.dumps({"first": first, "batch": list(batch)})
    # A file takes what the process complains of: a pipe that nobody reads would fill and stop it.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        start = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8"
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(request)
            told = _next_report(process.stdout)
            seconds = time.perf_counter() - start
            told |= _next_report(process.stdout)
        complaints.seek(0)
        last = (complaints.read().strip().splitlines() or ["no output"])[-1]
    if process.returncode or "peak_rss_batch_mb" not in told:
        from agnews_exp.core.process import explain_exit

        raise AgnewsError(f"The process that loads {folder}: {explain_exit(process.returncode)}: {last}")
    return ColdStart(seconds=seconds, **told)


def _next_report(lines: Iterable[str]) -> dict[str, Any]:
    """Return the next line of JSON, past whatever a library may have printed; empty at the end."""
    for line in lines:
        if line.startswith("{"):
            return dict(json.loads(line))
    return {}


def main() -> None:
    """Load the model folder of the command line, answer the texts of standard input, and print the measurements."""
    start = time.perf_counter()
    from agnews_exp.evaluation.efficiency import peak_memory_mb
    from agnews_exp.models.loading import load_model

    imported = time.perf_counter()
    model = load_model(Path(sys.argv[1]))
    loaded = time.perf_counter()
    request: dict[str, Any] = json.load(sys.stdin)
    asked = time.perf_counter()
    model.predict([request["first"]])
    answered = time.perf_counter()
    times = {"import_s": imported - start, "load_s": loaded - imported, "first_answer_s": answered - asked}
    _tell(**times, peak_rss_one_mb=peak_memory_mb())
    if request["batch"]:
        model.predict(request["batch"])
    _tell(peak_rss_batch_mb=peak_memory_mb(), peak_gpu_mb=_peak_gpu_mb())


def _peak_gpu_mb() -> float | None:
    if "torch" not in sys.modules:
        return None
    import torch

    gpu: Any = torch.cuda
    if not gpu.is_available() or not gpu.is_initialized():
        return None
    return float(gpu.max_memory_allocated()) / 1024**2


def _tell(**values: float | None) -> None:
    print(json.dumps(values), flush=True)


COST_FORMULA = "cost per million = price per hour x 1,000,000 / (texts per second x 3,600 x utilisation)"
_TRAINING = ("features", "tokenise", "fit")


@analysis("efficiency", title="What using the model costs")
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

    Returns:
        ``latency_p50_ms_<batch size>``, ``latency_p95_ms_...``, ``throughput_...``, ``cold_start_s``,
        ``serving_rss_mb`` and, where they could be had, ``serving_gpu_mb``, ``kwh_per_million``, ``cost_per_million``.

    Raises:
        ConfigError: ``machine`` is not in the price table, or an endpoint answers, whose answers lie on the disk.
    """
    if language_models(context.model):
        raise ConfigError(
            "The speed and the cost of a language model's endpoint are those of the run that asked it: its answers are "
            "on the disk now.",
            fix="agnews compare RUN OTHER, which shows both",
        )
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
    batch = [texts[i % len(texts)] for i in range(fastest.batch_size)]
    starts = [measure_cold_start(run / MODEL, texts[i % len(texts)], batch) for i in range(cold_starts)]
    energy, no_energy = _energy(context, fastest.batch_size, energy_seconds, country)
    price = table.get(machine)
    cost = None if price is None else cost_per_million(price, fastest.throughput, utilisation)
    training = _training(context.timings)
    machine_facts = _machine(context)

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
            "formula": COST_FORMULA, "machine": machine, "price_per_hour": price, "currency": currency,
            "utilisation": utilisation, "throughput": fastest.throughput, "batch_size": fastest.batch_size,
            "per_million": cost,
        },
    }  # fmt: skip
    first = latencies[0]
    headline = (
        f"{plural(first.batch_size, 'text')} in a call {'takes' if first.batch_size == 1 else 'take'} "
        f"{first.p50_ms:.2f} ms; the highest throughput is {fastest.throughput:,.0f} texts/s."
    )
    return Findings(headline, _blocks(facts, latencies, starts, energy), metrics, facts)


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


def _blocks(
    facts: Mapping[str, Any], latencies: Sequence[Latency], starts: Sequence[ColdStart], energy: Energy | None
) -> tuple[Table | Chart, ...]:
    machine = facts["machine"]
    where = (
        f"Measured on {machine['cpu']}, {machine['cpu_cores']} cores, {machine['memory_gb']} GB, device "
        f"{machine['device']}: validation texts, features included, calls one after the other."
    )
    ordered = sorted(latencies, key=lambda one: one.batch_size)
    sizes = tuple(float(one.batch_size) for one in ordered)
    percentiles = ("p50_ms", "p95_ms", "p99_ms")
    rows = tuple(
        (one.batch_size, one.calls, one.p50_ms, one.p95_ms, "too few calls" if one.p99_ms is None else one.p99_ms,
         one.throughput)
        for one in latencies
    )  # fmt: skip
    percent = (Column(f"p{n}", ".2f", "ms") for n in (50, 95, 99))
    columns: Columns = ("batch size", "calls", *percent, Column("texts/s", "count"))
    series = tuple(Series(name[:3], sizes, tuple(getattr(one, name) for one in ordered)) for name in percentiles)
    x_title, logarithmic = "texts in a call", len(sizes) > 1
    return (
        Table("latency", "Latency and throughput", columns, rows, note=where),
        Table("costs", "Size, start, memory, energy and cost", ("what", "value", "how"),
              tuple(_rows(facts, starts, energy))),
        Chart("latency", "Time of a call", "lines", x_title, "time of a call [ms]", series,
              log_x=logarithmic, log_y=True),
        Chart("throughput", "Texts a second", "lines", x_title, "texts/s",
              (Series("throughput", sizes, tuple(one.throughput for one in ordered)),), log_x=logarithmic),
    )  # fmt: skip


def _rows(facts: Mapping[str, Any], starts: Sequence[ColdStart], energy: Energy | None) -> list[tuple[str, str, str]]:
    rows = [("size on disk", f"{facts['model_size_mb']:.1f} MiB", "all files of the model folder")]
    if starts:
        one = sorted(starts, key=lambda start: start.seconds)[len(starts) // 2]
        how = (
            f"median of {len(starts)} fresh processes, files in the system's cache: import {one.import_s:.2f} s, load "
            f"{one.load_s:.2f} s, first text {one.first_answer_s:.2f} s"
        )
        resident, gpu = "resident, in that process", one.peak_gpu_mb
        rows += [
            ("cold start", f"{one.seconds:.2f} s", how),
            ("peak memory, one text", f"{one.peak_rss_one_mb:,.0f} MiB", resident),
            (f"peak memory, batch of {facts['cost']['batch_size']}", f"{one.peak_rss_batch_mb:,.0f} MiB", resident),
            (
                "peak GPU memory",
                "none used" if gpu is None else f"{gpu:,.0f} MiB",
                "torch's allocator, in that process",
            ),
        ]
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
        emitted = f"{energy.kg_co2e / energy.items * 1e6:.3g} kg CO2e"
        rows.append(("emissions per million", emitted, "at the grid's mean"))
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


if __name__ == "__main__":
    try:
        main()
    except AgnewsError as error:
        sys.exit(error.message.replace("\n", " "))

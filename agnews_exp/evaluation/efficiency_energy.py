"""Energy of a piece of work, by codecarbon and without a network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agnews_exp.config.errors import MissingDependencyError

_ANY_COUNTRY = "USA"  # codecarbon wants one; energy does not depend on it, and emissions are then not reported
_METERED = ("intel_rapl", "intel_power_gadget", "powermetrics")


@dataclass(frozen=True)
class Energy:
    """What a piece of work took.

    Attributes:
        kwh: Of the whole machine, CPU, GPU and memory.
        seconds: How long it took.
        items: How many items it answered.
        metered: Whether the CPU's part comes from a power meter; else codecarbon estimates it from the load and the
            processor's nominal power. Memory is always estimated from its size.
        source: What codecarbon used, in words.
        kg_co2e: Emissions at the country's grid; None without a country.
    """

    kwh: float
    seconds: float
    items: int
    metered: bool
    source: str
    kg_co2e: float | None

    @property
    def kwh_per_million(self) -> float:
        """Energy of a million items."""
        return self.kwh / self.items * 1e6


def measure_energy(work: Callable[[], int], *, seconds: float, country: str | None = None) -> Energy:
    """Repeat a piece of work for some time and measure the machine's energy meanwhile.

    Args:
        work: Does a piece and returns how many items it answered.
        seconds: Repeat for so long at least.
        country: ISO code of three letters, for emissions.

    Raises:
        MissingDependencyError: codecarbon is not installed.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError as error:
        raise MissingDependencyError(
            "Energy needs the package 'codecarbon', which is not installed.", fix="pip install 'agnews-exp[energy]'"
        ) from error
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    tracker: Any = OfflineEmissionsTracker(
        country_iso_code=country or _ANY_COUNTRY,
        save_to_file=False,
        log_level="error",
        measure_power_secs=1,
        allow_multiple_runs=True,
    )
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
    modes = [str(getattr(part, "_mode", "")) for part in tracker._hardware if type(part).__name__ == "CPU"]
    metered = bool(modes) and all(mode in _METERED for mode in modes)
    parts = ", ".join(str(part) for part in tracker._conf.get("hardware", ()))
    return Energy(float(found.energy_consumed), elapsed, items, metered, parts, float(kg) if country and kg else None)

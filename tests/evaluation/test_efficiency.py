import subprocess
import sys
import time

import pytest

from agnews_exp.analyses.efficiency import measure_energy
from agnews_exp.evaluation.efficiency import cost_per_million, measure_latency, measure_throughput, peak_memory_mb


def test_latency_counts_calls_and_texts():
    seen = []

    def predict(texts):
        seen.append(list(texts))
        time.sleep(0.002)

    found = measure_latency(predict, ["a", "b", "c"], 2, seconds=0.0, min_calls=5, warm_up=1)
    assert found.calls == 5
    assert seen == [["a", "b"], ["c", "a"], ["b", "c"], ["a", "b"], ["c", "a"], ["b", "c"]]
    assert 2 <= found.p50_ms <= found.p95_ms
    assert 0 < found.throughput <= 2 / 0.002


def test_slow_calls_show_in_the_upper_percentiles_only():
    calls = iter(range(1000))

    def predict(texts):
        time.sleep(0.02 if next(calls) % 12 == 0 else 0.0)

    found = measure_latency(predict, ["a"], 1, seconds=0.0, min_calls=120, warm_up=0)
    assert found.p50_ms < 10
    assert found.p95_ms >= 20
    assert found.p99_ms >= found.p95_ms


def test_percentile_that_the_calls_cannot_show_is_left_out():
    assert measure_latency(lambda texts: None, ["a"], 1, seconds=0.0, min_calls=99, warm_up=0).p99_ms is None
    assert measure_latency(lambda texts: None, ["a"], 1, seconds=0.0, min_calls=100, warm_up=0).p99_ms is not None


def test_measuring_goes_on_for_the_time_asked_for(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("agnews_exp.evaluation.efficiency.time.perf_counter", lambda: now[0])

    def predict(texts):
        now[0] += 0.25

    assert measure_latency(predict, ["a"], 1, seconds=1.0, min_calls=2, warm_up=0).calls == 4


def test_cost_per_million_by_hand():
    # A million texts at 100/s take 10,000 s, 2.777... h; busy half of the time twice as long.
    assert cost_per_million(0.36, 100.0, 1.0) == pytest.approx(1.0)
    assert cost_per_million(0.36, 100.0, 0.5) == pytest.approx(2.0)


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_peak_memory_of_a_child_is_its_own():
    """ru_maxrss of a process that a large one started begins with the large one's memory."""
    ballast = bytearray(300 * 1024**2)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from agnews_exp.evaluation.efficiency import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_memory_mb() > 300
    assert 5 < float(done.stdout) < 250
    del ballast


def test_energy_is_that_of_the_items_answered():
    pytest.importorskip("codecarbon")
    found = measure_energy(lambda: time.sleep(0.05) or 7, seconds=1.2)
    assert found.items % 7 == 0
    assert found.kwh > 0
    assert found.kg_co2e is None
    assert found.kwh_per_million == pytest.approx(found.kwh / found.items * 1e6)


def test_throughput_by_a_clock_that_knows_what_calls_take(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("agnews_exp.evaluation.efficiency.time.perf_counter", lambda: now[0])

    def predict(texts):
        now[0] += 0.5 if len(texts) == 1 else 4.0

    found = measure_throughput(predict, ["a", "b", "c", "d", "e", "f"] * 200, 3)
    assert found == {"throughput_batch": 250.0, "throughput_single": 2.0, "latency_single_ms": 500.0}


@pytest.mark.parametrize(("seconds", "measured"), [(9.0, 3), (300.0, 1)])
def test_a_slow_model_is_measured_but_not_for_ever(monkeypatch, seconds, measured):
    now, calls = [0.0], []
    monkeypatch.setattr("agnews_exp.evaluation.efficiency.time.perf_counter", lambda: now[0])

    def predict(texts):
        calls.append(len(texts))
        now[0] += seconds * len(texts) / 1000

    found = measure_throughput(predict, ["a text"] * 1200, 50)
    assert found["throughput_batch"] == pytest.approx(1000 / seconds)
    assert calls.count(1000) == measured
    assert sum(calls) < 1000 * measured + 100


def test_measuring_energy_leaves_no_file_behind(tmp_path, monkeypatch):
    pytest.importorskip("codecarbon")
    monkeypatch.chdir(tmp_path)
    measure_energy(lambda: 1, seconds=0.1)
    assert list(tmp_path.iterdir()) == []

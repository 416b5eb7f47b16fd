"""Prometheus metrics of a server."""

from __future__ import annotations

from collections.abc import Callable

from agnews_exp.config.errors import MissingDependencyError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms in a registry of their own.

    Args:
        paths: Paths that are told apart; others are counted as ``other``.
        waiting: Returns the number of requests at work or waiting.

    Raises:
        MissingDependencyError: prometheus_client is not installed.
    """

    def __init__(self, paths: frozenset[str], waiting: Callable[[], int]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingDependencyError(
                "agnews serve needs prometheus-client, which is not installed.", fix="pip install 'agnews-exp[serve]'"
            ) from error
        self.paths = paths
        self._registry = CollectorRegistry()
        self._requests = Counter("agnews_requests", "Requests.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "agnews_request_seconds", "Time of a request.", ["path"], buckets=_SECONDS, registry=self._registry
        )
        self._texts = Counter("agnews_texts", "Texts answered.", registry=self._registry)
        self._batches = Histogram("agnews_batch_texts", "Texts in a batch.", buckets=_TEXTS, registry=self._registry)
        gauge = Gauge("agnews_requests_waiting", "Requests at work or waiting.", registry=self._registry)
        gauge.set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, texts: int) -> None:
        """Count a batch."""
        self._batches.observe(texts)
        self._texts.inc(texts)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self._registry))

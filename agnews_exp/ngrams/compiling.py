"""Compiling the kernels before they are needed, on a thread of its own, so that no timed stage holds it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

log = logging.getLogger(__name__)

_TEXTS = ("a few words", "a few more words")


def start_compiling() -> Callable[[], None]:
    """Begin to compile on another thread what counting and weighing n-grams takes, or to read it from disk.

    Where it had to be compiled, which happens once for a kind of processor, a line says how long it took.

    Returns:
        A function that waits until all is there.
    """
    thread = threading.Thread(target=_compile, name="compile n-gram kernels", daemon=True)
    thread.start()
    return thread.join


def _compile() -> None:
    """Call every kernel of a word and a character vectoriser once."""
    from agnews_exp.ngrams.vectorizers import kernels_available

    if not kernels_available():
        return
    from agnews_exp.ngrams import kernels
    from agnews_exp.ngrams.counting import NgramSpec
    from agnews_exp.ngrams.fitting import CorpusRows, SharedCounts, Vocabulary, Weighting, build_matrix

    used = [kernel for kernel in vars(kernels).values() if hasattr(kernel, "stats")]
    start = time.thread_time()
    weighting = Weighting(tfidf=True, sublinear=True, idf=np.ones(1), norm="l2")
    for spec in (NgramSpec("word", 1, 1, True, r"(?u)\b\w\w+\b"), NgramSpec("char", 1, 1, True)):
        counts = SharedCounts(_TEXTS, None).counts(spec, 1)
        assert counts is not None
        rows = CorpusRows(counts, np.arange(len(_TEXTS)), 1)
        terms = rows.terms(np.zeros(1, np.intp))
        build_matrix([Vocabulary(spec, terms).part(_TEXTS, weighting)], 1)
    if sum(sum(kernel.stats.cache_misses.values()) for kernel in used):
        log.info("compiling the n-gram counter for this processor, once: %.1f s", time.thread_time() - start)

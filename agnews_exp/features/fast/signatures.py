"""The parameters that our vectorisers take from scikit-learn's, and the one that they add."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any


def init_with_jobs(base: type) -> Callable[..., None]:
    """Return an ``__init__`` with every argument of a scikit-learn vectoriser and ``n_jobs``.

    Its signature names them all, so that get_params, clone and the check of configurations find them.

    Args:
        base: The vectoriser that it initialises.
    """
    own: Any = base.__init__  # type: ignore[misc]

    def __init__(self: Any, *, n_jobs: int | None = None, **arguments: Any) -> None:
        own(self, **arguments)
        self.n_jobs = n_jobs

    jobs = inspect.Parameter("n_jobs", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="int | None")
    signature = inspect.signature(own)
    vars(__init__)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), jobs])
    return __init__


def constraints_with_jobs(base: Any) -> dict[str, Any]:
    """Return the parameter constraints that go with :func:`init_with_jobs`; ``ngram_range`` may also be a list."""
    return {**base._parameter_constraints, "ngram_range": [tuple, list], "n_jobs": [Integral, None]}


def usable_jobs(n_jobs: int | None) -> int:
    """Return the number of threads: None, 0 and -1 mean all cores, -2 all but one."""
    from joblib import cpu_count

    cores = int(cpu_count())
    if n_jobs is None or n_jobs == -1 or n_jobs == 0:
        return cores
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)

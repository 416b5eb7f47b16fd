"""Requests made from the server's own OpenAPI description, valid and not, by schemathesis."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from fuzz_targets import fitted_model
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

_EXAMPLES = 100
_SHOWN = 1500
_REFUSALS = [413, 422]
"""What an invalid request gets: 413 where it is too large before it is anything else."""


def fuzz_serve(seconds: float) -> tuple[int, list[str], Counter[int]]:
    """Ask an application for some time.

    Args:
        seconds: How long.

    Returns:
        How many requests were made, what was wrong with answers (an answer that its description does not allow, a
        failure of the server, a valid request that was refused, an invalid one that was not), and the statuses.
    """
    import schemathesis
    from schemathesis.generation import GenerationMode

    from agnews_exp.serving.http.app import create_app

    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": _REFUSALS}}})
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(fitted_model(), "fuzz"), config=config)
    operations = [found.ok() for found in schema.get_all_operations()]
    asked = [(operation, GenerationMode.POSITIVE) for operation in operations]
    # A path that takes nothing has one request, which cannot be wrong.
    again = [(operation, mode) for operation in operations if operation.body for mode in GenerationMode]
    statuses: Counter[int] = Counter()
    faults: dict[str, str] = {}
    deadline, number = time.monotonic() + seconds, 0
    while number == 0 or time.monotonic() < deadline:
        for operation, mode in again if number else [*asked, *again]:
            try:
                _ask(operation.as_strategy(generation_mode=mode), number, statuses)
            except (Exception, BaseExceptionGroup) as error:
                faults.setdefault(f"{operation.label} ({mode.value}): {type(error).__name__}", str(error))
        number += 1
    return sum(statuses.values()), [f"{where}: {what[:_SHOWN]}" for where, what in faults.items()], statuses


def _ask(cases: SearchStrategy[Any], number: int, statuses: Counter[int]) -> None:
    """Make a round of requests, and check every answer against the description."""

    @seed(number)
    @settings(
        max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], print_blob=False,
    )  # fmt: skip
    @given(case=cases)
    def ask(case: Any) -> None:
        response = case.call()
        statuses[response.status_code] += 1
        case.validate_response(response)

    ask()

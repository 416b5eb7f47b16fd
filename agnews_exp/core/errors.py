"""Errors that a user can act on: what is wrong, what is allowed, and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agnews_exp.core.suggestions import nearest
from agnews_exp.core.text import masked, shortened

_LONGEST_WORD, _LONGEST_MESSAGE = 1000, 10_000
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD},}}")


class AgnewsError(Exception):
    """Base of all errors shown to the user without a traceback; they never repeat endless input.

    ``message`` names the key or file and the value; ``fix`` is the next thing to do, as one sentence or command.
    """

    exit_code = 2

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        self.message = _bounded(message)
        self.fix = None if fix is None else _bounded(fix)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}\n  fix: {self.fix}"


def _bounded(message: str) -> str:
    return shortened(_LONG_WORD.sub(lambda word: shortened(word.group(), _LONGEST_WORD), message), _LONGEST_MESSAGE)


class ConfigError(AgnewsError):
    """The configuration names something unknown, out of range or contradictory."""


class DataError(AgnewsError):
    """The data cannot be read or cannot be used as asked."""


class MissingDependencyError(AgnewsError):
    """An optional package is needed; the fix names the extra to install."""


@contextmanager
def needs(package: str, what: str, install: str) -> Iterator[None]:
    """Turn a failed import into the error that says what (such as ``Energy``) needs the package, and how to get it."""
    try:
        yield
    except ImportError as error:
        message = f"{what} needs the package '{package}', which is not installed."
        raise MissingDependencyError(message, fix=f"pip install {install}") from error


class StorageError(AgnewsError):
    """A folder cannot be written, the disk is full, or a stored file is damaged."""

    exit_code = 3


class ResourceError(AgnewsError):
    """Memory or threads gave out, or a database that others hold did not answer."""

    exit_code = 3


class Pruned(Exception):
    """A search gave up on this run at a step because others were better there; it is an end, not an error."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"pruned at step {step} with {value:.4f}")
        self.step = step
        self.value = value


def unknown_name(what: str, word: str, known: Sequence[str]) -> ConfigError:
    """Return the error for a name that is not among the known ones, such as a ``choice for model``."""
    guess = nearest(word, known)
    hint = f" Did you mean '{guess}'?" if guess else ""
    listed = ", ".join(sorted(known)) or "none"
    return ConfigError(f"Unknown {what}: '{word}'.{hint}\n  allowed: {listed}", fix=f"use '{guess}'" if guess else None)


def refuse_password(key: str, value: object) -> None:
    """Refuse an address that holds a password: whatever is configured is written to records, logs and MLflow."""
    if not isinstance(value, str) or masked(value) == value:
        return
    places = {
        "http": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, or ~/.netrc",
        "postgresql": "~/.pgpass, or PGPASSWORD in the environment",
        "mysql": "a file that the address names: ?read_default_file=~/.my.cnf",
    }
    if "sk-***" in masked(value):
        raise ConfigError(
            f"{key}={masked(value)} holds a key, which would be written to records, logs and MLflow.",
            fix="export OPENAI_API_KEY=<key>; the configuration has the name of the variable alone",
        )
    scheme = value.strip("'\" ").partition(":")[0].partition("+")[0].removesuffix("s")
    place = places.get(scheme) if "uri" in key or "storage" in key else None
    raise ConfigError(
        f"{key}={masked(value)} holds a password, which would be written to records, logs and MLflow.",
        fix="leave the password out of the address" + (f" and put it into {place}" if place else ""),
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where there is no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

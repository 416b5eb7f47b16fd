"""Components of a configuration: what ``_target_`` may name, checking its arguments, and building it.

Only components of this package, scikit-learn style estimators, and the user's own modules that the environment variable
AGNEWS_COMPONENTS names can be built from a configuration. Neither a configuration nor a model folder can add to that.
Of its functions only those that the shipped conf/ names are components: others write files, and a configuration may be
that of a record from elsewhere.
The path's first part is checked before anything is imported, and the object that the path leads to is checked again,
because ``agnews_exp.data.csv_files.os.system`` also begins with the package's name.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import is_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_type_hints

from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError, unknown_name
from agnews_exp.core.paths import config_folder
from agnews_exp.core.suggestions import nearest

_OWN = (
    "agnews_exp.data",
    "agnews_exp.features",
    "agnews_exp.ngrams",
    "agnews_exp.models",
    "agnews_exp.analyses",
    "agnews_exp.analyses.exploration",
)
_KIND = re.compile(r"(constrained-)?(int|float|str|bool)|literal\[.*\]|(list|dict|function)[-\[].*", re.DOTALL)
_OF_NAMES = "^[A-Za-z0-9]["
_BOOSTERS = ("xgboost", "lightgbm")
_ESTIMATORS = {"sklearn": None, "xgboost": "boost", "lightgbm": "boost"}
"""Packages whose estimators may be built, with the extra that brings each."""

_ALLOWED_TEXT = (
    "components and analyses of agnews_exp, estimators of sklearn, xgboost, lightgbm, "
    "and your own modules named in AGNEWS_COMPONENTS"
)


def own_modules() -> tuple[str, ...]:
    """Return the user's modules and packages that AGNEWS_COMPONENTS trusts, such as ``("my_models",)``.

    The environment alone can say so: it belongs to the one who starts the command, as PYTHONPATH does, which those
    modules are found by.
    """
    return tuple(name for word in os.environ.get("AGNEWS_COMPONENTS", "").split(",") if (name := word.strip()))


def is_own(module: str) -> bool:
    """Return whether a module, given by its dotted name, is or lies in one of :func:`own_modules`."""
    return any(module == own or module.startswith(f"{own}.") for own in own_modules())


def resolve_target(path: object, key: str) -> Callable[..., Any]:
    """Return the class or function that ``path``, the value of the configuration's ``key``, names.

    Raises:
        ConfigError: The path is not on the allow-list or leads nowhere.
        MissingDependencyError: The path needs an extra that is not installed.
    """
    if not isinstance(path, str) or "." not in path:
        raise ConfigError(f"{key}={path!r} is not a dotted path.\n  allowed: {_ALLOWED_TEXT}")
    root = path.split(".", 1)[0]
    module_name, _, attribute = path.rpartition(".")
    if root not in _ESTIMATORS and not _is_ours(module_name) and not is_own(module_name):
        raise _refused(path, key)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == root and root in _ESTIMATORS:
            raise MissingDependencyError(
                f"{key}={path} needs the package '{root}', which is not installed.",
                fix=f"pip install 'agnews-exp[{_ESTIMATORS[root]}]'",
            ) from error
        fix = "name the folder that holds it in PYTHONPATH" if error.name == root and is_own(module_name) else None
        raise ConfigError(f"{key}={path}: there is no module '{module_name}' ({error}).", fix=fix) from error
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{key}={path}: '{module_name}' cannot be imported ({error}).") from error
    if not hasattr(module, attribute):
        public = [name for name in dir(module) if not name.startswith("_")]
        guess = nearest(attribute, public)
        raise ConfigError(
            f"{key}={path}: '{module_name}' has no '{attribute}'.",
            fix=f"use {module_name}.{guess}" if guess else None,
        )
    found = getattr(module, attribute)
    if not _is_allowed(found):
        raise _refused(path, key)
    return found  # type: ignore[no-any-return]


def _refused(path: str, key: str) -> ConfigError:
    return ConfigError(
        f"{key}={path} may not be built from a configuration.\n  allowed: {_ALLOWED_TEXT}",
        fix="choose a shipped component (agnews list model), or trust your own module: "
        f"AGNEWS_COMPONENTS={path.rpartition('.')[0] or 'my_module'}",
    )


def _is_ours(module: str) -> bool:
    return any(module == own or module.startswith(f"{own}.") for own in _OWN)


def _is_allowed(found: object) -> bool:
    if not (inspect.isclass(found) or inspect.isfunction(found)) or found.__name__.startswith("_"):
        return False
    home = found.__module__
    if is_own(home):
        return True
    if _is_ours(home):
        return _is_plain_class(found) if inspect.isclass(found) else f"{home}.{found.__name__}" in _shipped_targets()
    if home.split(".", 1)[0] in _ESTIMATORS and inspect.isclass(found):
        from sklearn.base import BaseEstimator

        return issubclass(found, BaseEstimator)
    return False


def _is_plain_class(found: type) -> bool:
    """Return whether an object of a class only keeps its arguments when it is made: an estimator or a data class."""
    if is_dataclass(found):
        return True
    from sklearn.base import BaseEstimator

    return issubclass(found, BaseEstimator)


@cache
def _shipped_targets() -> frozenset[str]:
    named = re.compile(r"^[^#\n]*_target_: *([\w.]+)", re.MULTILINE)
    texts = (path.read_text(encoding="utf-8") for path in config_folder().rglob("*.yaml"))
    return frozenset(target for text in texts for target in named.findall(text))


def check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], key: str, supplied: Collection[str] = ()
) -> dict[str, Any]:
    """Check keyword arguments against a component's signature before any work is done.

    Annotated parameters are checked for type and range (pydantic); scikit-learn style estimators by their own
    parameter constraints, which needs one to be constructed.

    ``supplied`` are parameters that the caller will give, not the configuration's ``key``.

    Returns:
        The arguments as the target wants them: converted to the annotated types, lists as tuples where needed.

    Raises:
        ConfigError: Unknown, missing, mistyped or out-of-range argument.
    """
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = [
        n for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and n not in supplied
    ]
    for name in arguments:
        if name not in named and not takes_any:
            raise unknown_name(f"key in {key} (for {target.__name__})", name, named)
    missing = [n for n in named if parameters[n].default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise ConfigError(f"{key} lacks {', '.join(missing)} (for {target.__name__}).")
    if target.__module__.split(".", 1)[0] in _BOOSTERS:
        return _check_booster(target, arguments, key)
    constraints = getattr(target, "_parameter_constraints", None)
    checked = dict(arguments)
    unconstrained = {n: parameters[n] for n in named if n not in (constraints or {})}
    if unconstrained and target.__module__.split(".", 1)[0] not in _ESTIMATORS:
        checked = _check_annotations(target, unconstrained, checked, key)
    return checked if constraints is None else _check_estimator(target, checked, constraints, key)


def _check_estimator(
    target: Callable[..., Any], arguments: Mapping[str, Any], constraints: Mapping[str, Any], key: str
) -> dict[str, Any]:
    declared = {name: _as_declared(value, constraints.get(name)) for name, value in arguments.items()}
    try:
        target(**declared)._validate_params()
    except (ValueError, TypeError) as error:
        name = next((n for n in arguments if f"'{n}' parameter" in str(error)), None)
        where = f"{key}.{name}={arguments[name]!r}" if name else key
        raise ConfigError(f"{where}: {error}", fix=f"set {key}.{name} to an allowed value" if name else None) from error
    return declared


def _check_booster(target: Callable[..., Any], arguments: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Check the arguments of a booster by its own annotations, then by fitting one tree on a few made-up rows.

    Its library looks at most arguments only while it fits, which would be after the features are made.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for parent in reversed(inspect.getmro(target)):  # type: ignore[arg-type] # a class: _is_allowed has seen to that
        if "__init__" in vars(parent) and parent.__module__.split(".", 1)[0] in _BOOSTERS:
            begin = vars(parent)["__init__"]
            parameters |= inspect.signature(begin).parameters
            hints |= get_type_hints(begin)
    simple = {
        name: parameters[name]
        for name in arguments
        if name in parameters
        and {*(get_args(hints.get(name)) or [hints.get(name)])} <= {int, float, bool, str, NoneType}
    }
    checked = _convert(simple, hints, arguments, key)
    trees = checked.get("n_estimators")
    if isinstance(trees, int) and trees < 1:  # XGBoost would fit nothing and say nothing
        raise ConfigError(f"{key}.n_estimators={trees}: at least one tree is needed.", fix=f"{key}.n_estimators=100")
    # Weights of classes, constraints and names of columns fit the real rows alone.
    trial = {
        name: value
        for name, value in checked.items()
        if isinstance(value, bool | int | float | str) and not re.search(r"constraint|feature|class", name)
    }
    trial |= {"n_jobs": 1, "verbosity": -1 if target.__module__.startswith("lightgbm") else 0}
    if trees is not None:
        trial["n_estimators"] = 1
    reasons = [_trial_fit(target, trial, n_classes) for n_classes in (2, 3)]  # an objective may be for two, or for more
    if all(reasons):
        name = next((n for n in arguments if re.search(rf"\b{n}\b", str(reasons[0]))), None)
        where = f"{key}.{name}={arguments[name]!r}" if name else key
        raise ConfigError(f"{where}: {target.__name__} refuses its parameters: {reasons[0]}")
    return checked


def _trial_fit(target: Callable[..., Any], arguments: Mapping[str, Any], n_classes: int) -> str | None:
    """Fit an estimator on 60 made-up rows; return why it refuses, or None where it does not."""
    import numpy as np

    generator = np.random.default_rng(0)
    rows, labels = generator.random((60, 4), dtype=np.float32), np.arange(60) % n_classes
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), _silent_libraries():
            warnings.simplefilter("ignore")
            target(**arguments).fit(rows, labels)
    except Exception as error:  # whatever the library raises
        lines = [line for line in str(error).splitlines() if line.strip()]
        return re.sub(r" at /\S+, line \d+.*", "", " ".join((lines or [type(error).__name__])[-1].split()))[:300]
    return None


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Hide what compiled libraries print by themselves on standard error."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _as_declared(value: Any, wanted: Any) -> Any:
    """Return a value as an estimator's constraints want it: YAML has no tuples, and an integer may be a real number."""
    if not isinstance(wanted, list):
        return value
    if isinstance(value, list) and tuple in wanted:
        return tuple(value)
    kinds = {getattr(constraint, "type", constraint) for constraint in wanted if constraint is not None}
    if isinstance(value, int) and not isinstance(value, bool) and Real in kinds and not kinds & {Integral, int}:
        return float(value)
    return value


def _check_annotations(
    target: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    arguments: Mapping[str, Any],
    key: str,
) -> dict[str, Any]:
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    return _convert(parameters, hints, arguments, key)


def _convert(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], arguments: Mapping[str, Any], key: str
) -> dict[str, Any]:
    """Return arguments converted to the types of their annotations."""
    from pydantic import ConfigDict, Field, ValidationError, create_model

    # A parameter may have a name that pydantic reserves, so the fields get neutral names and aliases.
    fields: dict[str, Any] = {
        f"field_{i}": (
            hints.get(name, Any),
            Field(alias=name)
            if parameter.default is inspect.Parameter.empty
            else Field(default=parameter.default, alias=name),
        )
        for i, (name, parameter) in enumerate(parameters.items())
    }
    settings = ConfigDict(arbitrary_types_allowed=True, extra="allow", allow_inf_nan=False)
    model = create_model("Arguments", __config__=settings, **fields)
    try:
        checked = model(**arguments)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, prefix=key)) from error
    converted = {name: getattr(checked, f"field_{i}") for i, name in enumerate(parameters) if name in arguments}
    return dict(arguments) | converted


def explain_validation(error: Any, prefix: str = "") -> str:
    """Turn a pydantic ValidationError into lines of ``key=value: what is allowed``, one a key."""
    allowed: dict[str, list[str]] = {}
    for item in error.errors():
        parts = [str(part) for part in ([prefix] if prefix else []) + list(item["loc"])]
        # Where a value may be of several kinds, pydantic names the kind it tried behind the key: int, literal['auto'].
        path = ".".join(part for part in parts if not _KIND.fullmatch(part))
        whole = item["type"] in ("missing", "extra_forbidden") or isinstance(item["input"], Mapping)
        message = (item["msg"][0].lower() + item["msg"][1:]).removeprefix("value error, ")
        if item["type"] == "string_pattern_mismatch" and item["ctx"]["pattern"].startswith(_OF_NAMES):
            message = "a name is of letters, digits, '_', '.' and '-', the first one a letter or a digit, and short"
        allowed.setdefault(path if whole else f"{path}={item['input']!r}", []).append(message)
    shared = "input should be "
    return "\n  ".join(
        f"{key}: " + ", or ".join([messages[0], *(message.removeprefix(shared) for message in messages[1:])])
        for key, messages in allowed.items()
    )


def find_targets(config: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, path) of every ``_target_`` in a nested plain configuration."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield f"{key}._target_", config["_target_"]
        for name, value in config.items():
            yield from find_targets(value, f"{key}.{name}")
    elif isinstance(config, list):
        for position, value in enumerate(config):
            yield from find_targets(value, f"{key}[{position}]")


def safe_instantiate(config: Any, key: str = "config") -> Any:
    """Build the objects of a plain configuration: mappings with ``_target_`` become objects, recursively.

    Raises:
        ConfigError: A target is not allowed or does not take its arguments.
    """
    return build(config, key)[0]


def build(config: Any, key: str = "config") -> tuple[Any, Any]:
    """Build the objects of a plain configuration, and return beside them its values as they were validated.

    ``C: 1`` and ``C: 1.0`` become the same value where a component takes a real number.

    Raises:
        ConfigError: A target is not allowed or does not take its arguments.
    """
    if isinstance(config, list):
        items = [build(value, f"{key}[{i}]") for i, value in enumerate(config)]
        return [built for built, _ in items], [plain for _, plain in items]
    if not isinstance(config, Mapping):
        return config, config
    parts = {name: build(value, f"{key}.{name}") for name, value in config.items() if name != "_target_"}
    built = {name: part[0] for name, part in parts.items()}
    plain = {name: part[1] for name, part in parts.items()}
    if "_target_" not in config:
        return built, plain
    target = resolve_target(config["_target_"], f"{key}._target_")
    arguments = check_arguments(target, built, key)
    plain = {"_target_": config["_target_"], **plain, **validated(plain, arguments)}
    try:
        return target(**arguments), plain
    except AgnewsError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {target.__name__} refuses its arguments: {error}") from error


def validated(plain: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain arguments as :func:`check_arguments` converted them; those that became objects stay as they were."""
    converted = {name: _plain_value(arguments[name]) for name in plain if name in arguments}
    return {name: plain[name] if value is _NOT_PLAIN else value for name, value in converted.items()}


_NOT_PLAIN = object()


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_plain_value(item) for item in value]
        return _NOT_PLAIN if any(item is _NOT_PLAIN for item in items) else items
    if isinstance(value, Mapping):
        inner = {key: _plain_value(item) for key, item in value.items()}
        return _NOT_PLAIN if any(item is _NOT_PLAIN for item in inner.values()) else inner
    return _NOT_PLAIN

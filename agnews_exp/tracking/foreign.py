"""What is checked when a run record is read: it may be damaged, or come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.config.cells import has_control, is_name
from agnews_exp.config.errors import StorageError

_TEXTS = ("name", "model", "features", "family", "primary", "fingerprint")
_NUMBERS = ("seed", "split_seed", "data_fraction")
_LARGEST_CONFIG = 1 << 20


def wrong_result(content: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the content of a result.json, or None.

    Names end up in terminals, tables and paths of figures, so those with control characters are wrong, too.
    """
    for key in _TEXTS:
        if key in content and not is_name(content[key]):
            return f"{key} is no name"
    for key in _NUMBERS:
        if key in content and not _is_number(content[key]):
            return f"{key} is no number"
    metrics = content.get("metrics", {})
    if not isinstance(metrics, dict) or not all(not has_control(str(k)) and _is_number(v) for k, v in metrics.items()):
        return "metrics are no numbers"
    names = content.get("class_names", [])
    if not isinstance(names, list) or not all(map(is_name, names)):
        return "class_names are no names"
    return _wrong_data(content.get("data", {}))


def missing_key(content: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Return the first of some dotted keys that a result lacks, or None."""
    for key in keys:
        found: Any = content
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return key
            found = found[part]
    return None


def _wrong_data(data: object) -> str | None:
    if not isinstance(data, dict):
        return "data are no mapping"
    rows = data.get("rows", {})
    if not isinstance(rows, dict) or not all(_is_number(n) for n in rows.values()):
        return "data.rows are no numbers"
    if any(key in data and not is_name(data[key]) for key in ("name", "source", "checksum", "evaluation_checksum")):
        return "data have no names"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_config(path: Path) -> dict[str, Any]:
    """Return a record's config.yaml as plain values.

    A run stores values, never interpolations, aliases or tags: a file with ``${oc.env:TOKEN}``, ten aliases of ten
    aliases, or ``!!python/object`` is not one that a run wrote.

    Raises:
        StorageError: It is missing, damaged, or holds any of these.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    what_libraries_raise = (yaml.YAMLError, OmegaConfBaseException)
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it has more than {_LARGEST_CONFIG:,} bytes")
        text = path.read_text(encoding="utf-8")
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it holds an alias")
        # OmegaConf's own loader: YAML's has another idea of what a number is.
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        if not isinstance(content, dict) or not content:
            raise ValueError("it is no mapping")
        if any("${" in word for word in _texts(content)):
            raise ValueError("it holds an interpolation")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, *what_libraries_raise) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{path} is damaged: {reason}", fix="train it again (force=true)") from error
    return {str(key): value for key, value in content.items()}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)

"""From another source's labels to our classes."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import ConfigError, DataError, unknown_name
from agnews_exp.core.suggestions import nearest

LabelMapping = Mapping[str, str | None]


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with the package."""
    folder = importlib.resources.files(__package__) / "mappings"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_mapping(name: str) -> LabelMapping:
    """Return a mapping by its name, or read it from a YAML file: source label or pattern -> class name or null.

    Raises:
        ConfigError: There is no such mapping or file.
        DataError: The file holds something else.
    """
    import yaml

    if name in shipped_mappings():
        text = (importlib.resources.files(__package__) / "mappings" / f"{name}.yaml").read_text(encoding="utf-8")
    elif (path := Path(name).expanduser()).is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise unknown_name("label mapping (nor is it a YAML file)", name, shipped_mappings())
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{name} is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(v is None or isinstance(v, str) for v in content.values()):
        raise DataError(f"{name} must map labels to class names or null, one `label: class` a line.")
    return {str(label): target for label, target in content.items()}


def map_labels(
    source_labels: Sequence[str], mapping: LabelMapping, class_names: Sequence[str], key: str = "mapping"
) -> dict[str, int | None]:
    """Return each source label's class index, or None for a label whose rows are left out.

    Args:
        source_labels: The different labels of the source.
        mapping: Source label, or a pattern such as ``talk.politics.*``, -> class name or None. A label that is
            named itself goes before patterns, of which the first that matches counts. Empty: labels are class names.
        class_names: K names.
        key: Configuration key, for messages.

    Raises:
        ConfigError: The mapping names a class that does not exist, or says nothing of a label.
    """
    index = {name: i for i, name in enumerate(class_names)}
    if not mapping:
        mapping = {name: name for name in class_names}
    for target in mapping.values():
        if target is not None and target not in index:
            raise unknown_name(f"class in {key}", target, class_names)
    found: dict[str, int | None] = {}
    missing = []
    for label in source_labels:
        patterns = [label] if label in mapping else [p for p in mapping if fnmatchcase(label, p)]
        if not patterns:
            missing.append(label)
            continue
        target = mapping[patterns[0]]
        found[label] = None if target is None else index[target]
    if missing:
        guess = nearest(missing[0], list(mapping))
        raise ConfigError(
            f"{key} says nothing of the label{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing)[:12])}"
            f"{', ...' if len(missing) > 12 else ''}.\n  it maps: {', '.join(mapping)}",
            fix=f"{key}={{'{missing[0]}': {class_names[0]}}} (null leaves its rows out)"
            + (f"; did you mean the label '{guess}'?" if guess else ""),
        )
    return found

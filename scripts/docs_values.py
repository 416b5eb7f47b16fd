"""What a configuration key may be, in words: from the schema, from annotations, from scikit-learn's constraints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, get_type_hints

from agnews_exp.config.schema import RunConfig
from agnews_exp.config.targets import resolve_target
from agnews_exp.core.errors import AgnewsError


def allowed_values(group: str, content: Mapping[str, Any]) -> dict[str, str]:
    """Return what each key of a choice may be: by the schema, and by the signatures of its components."""
    field = RunConfig.model_fields.get(group)
    schema = getattr(field.annotation, "model_json_schema", None) if field else None
    found = allowed_by_schema(schema()) if schema else {}
    for prefix, component in components(content):
        found |= {f"{prefix}{name}": text for name, text in allowed_by_target(component["_target_"]).items()}
    return found


def components(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every mapping with a ``_target_``, with the prefix of its keys."""
    if "_target_" in content:
        yield prefix, content
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from components(value, f"{prefix}{name}.")


def allowed_by_target(target: str) -> dict[str, str]:
    """Return what a component says about its arguments: sklearn's constraints, or annotations."""
    try:
        found = resolve_target(target, "_target_")
    except AgnewsError:  # its extra is not installed
        return {}
    constraints = getattr(found, "_parameter_constraints", None)
    if isinstance(constraints, dict):
        return {name: constraint_text(rules) for name, rules in constraints.items() if isinstance(rules, list)}
    return allowed_by_hints(found)


def constraint_text(rules: Iterable[Any]) -> str:
    """Say a parameter's scikit-learn constraints in words; what no YAML can give (callables, objects) is left out."""
    return " or ".join(text for text in dict.fromkeys(_rule_text(rule) for rule in rules) if text)


_TYPES: dict[type, str] = {
    bool: "`true` or `false`",
    int: "integer",
    Integral: "integer",
    float: "number",
    Real: "number",
    str: "text",
    dict: "mapping",
    list: "list",
}
_WORDS = {"boolean": "`true` or `false`", "random_state": "integer >= 0", "cv_object": "integer >= 2"}


def _rule_text(rule: Any) -> str:
    if rule is None:
        return "null"
    if isinstance(rule, str):
        return _WORDS.get(rule, "")
    if isinstance(rule, type):
        return _TYPES.get(list if rule is tuple else rule, "")
    if hasattr(rule, "options"):
        options = ", ".join(f"`{option}`" for option in sorted(map(str, rule.options)))
        return f"one of {options}" if len(rule.options) > 1 else options
    if hasattr(rule, "closed"):
        low = f"{'>=' if rule.closed in ('left', 'both') else '>'} {rule.left}"
        high = f"{'<=' if rule.closed in ('right', 'both') else '<'} {rule.right}"
        ends = [
            end for end, value in ((low, rule.left), (high, rule.right)) if value is not None and abs(value) < 1e300
        ]
        return f"{'integer' if rule.type.__name__ == 'Integral' else 'number'} {', '.join(ends)}".strip()
    return ""


def allowed_by_hints(target: Any) -> dict[str, str]:
    """Return what the annotations of a function's or class's parameters allow."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    texts = {}
    for name, hint in get_type_hints(
        target.__init__ if isinstance(target, type) else target, include_extras=True
    ).items():
        try:
            texts[name] = schema_text(TypeAdapter(hint).json_schema())
        except (PydanticSchemaGenerationError, PydanticUserError):  # an object that no YAML can give
            continue
    return texts


def allowed_by_schema(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return what a JSON schema allows for each of its properties, those of nested models under dotted names."""
    found = {}
    for name, part in schema.get("properties", {}).items():
        if "$ref" in part:
            inner = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
            found |= {
                f"{name}.{key}": text for key, text in allowed_by_schema(inner | {"$defs": schema["$defs"]}).items()
            }
        else:
            found[name] = schema_text(part)
    return found


_BOUNDS = (("exclusiveMinimum", "> {}"), ("minimum", ">= {}"), ("exclusiveMaximum", "< {}"), ("maximum", "<= {}"))


def schema_text(schema: Mapping[str, Any]) -> str:
    """Say a JSON schema in words: ``number > 0, <= 1``; ``one of a, b``; ``integer or null``."""
    if alternatives := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(schema_text(part) for part in alternatives if schema_text(part)))
    if "enum" in schema:
        return f"one of {', '.join(f'`{value}`' for value in schema['enum'])}"
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", ""))
    if kind == "array":
        inner = schema_text(schema.get("items", {}))
        return f"list of {inner}" if inner else "list"
    bounds = ", ".join(text.format(f"{schema[key]:,}") for key, text in _BOUNDS if key in schema)
    names = {"object": "mapping", "string": "text", "boolean": "`true` or `false`"}
    return " ".join(part for part in (names.get(kind, kind), bounds) if part)

"""The configuration reference of the documentation site, from conf/, the schema and the components' signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from docs_commands import cell
from docs_values import allowed_by_schema, allowed_values

from agnews_exp.config.compose import list_groups
from agnews_exp.config.schema import RunConfig
from agnews_exp.core.paths import config_folder

CONF = config_folder()
CONFIG_PAGES = "reference/config"

_AS_YAML = ("experiment", "model/members", "hydra")
"""Groups whose files say more as they stand than as a table of keys."""

_COMMENT = re.compile(r"^(\s*)([A-Za-z_][\w]*):(?:\s+(?:[^#'\"]|'[^']*'|\"[^\"]*\")*?)?\s+#\s*(.+)$")
_KEY = re.compile(r"^(\s*)([A-Za-z_][\w]*):")


def config_pages() -> dict[str, str]:
    """Return the pages of the configuration reference: an overview, then one for each group with its sub-groups."""
    groups = list_groups() | hydra_groups()
    pages = {f"{CONFIG_PAGES}/index.md": overview(groups)}
    for top in dict.fromkeys(page_of(group) for group in groups):
        parts = [f"# {top}", group_introduction(top)]
        for group in (g for g in groups if page_of(g) == top):
            if group != top:
                parts.append(f"## {group}\n\nChosen with `{group}=...`.")
            parts += [choice_section(group, choice, "##" if group == top else "###") for choice in groups[group]]
        pages[f"{CONFIG_PAGES}/{top}.md"] = "\n\n".join(part for part in parts if part) + "\n"
    return pages


def hydra_groups() -> dict[str, list[str]]:
    """Return our launchers and sweepers, which are groups of Hydra's own node."""
    return {
        f"hydra/{name}": sorted(path.stem for path in (CONF / "hydra" / name).glob("*.yaml"))
        for name in ("launcher", "sweeper")
    }


def page_of(group: str) -> str:
    """Return the name of the page that a group stands on."""
    return group.split("/", 1)[0]


def overview(groups: Mapping[str, list[str]]) -> str:
    """Return the first page: the groups, and the scalars of config.yaml."""
    links = [
        f"| [`{group}`]({page_of(group)}.md) | {', '.join(f'`{choice}`' for choice in choices)} |"
        for group, choices in groups.items()
    ]
    comments = key_comments(CONF / "config.yaml")
    content = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    scalars = {k: v for k, v in content.items() if k != "defaults"}
    rows = key_rows(scalars, allowed_by_schema(RunConfig.model_json_schema()), comments)
    return "\n".join([
        "# Configuration\n",
        "Generated from `conf/`, the schema and the components' signatures. Choose with `group=choice`, change any key "
        "with `group.key=value`: `agnews run model=logreg model.C=3`. `agnews show` prints what a command composes; "
        "`agnews list GROUP` lists the choices, those of your own `--config-dir` among them.\n",
        "| group | choices |\n| --- | --- |",
        *links,
        "\n## Scalars\n",
        rows,
    ])  # fmt: skip


def group_introduction(group: str) -> str:
    """Return what the schema says about a group as a whole."""
    field = RunConfig.model_fields.get(group)
    text = (getattr(field.annotation, "__doc__", "") or "") if field else ""
    return text.strip().split("\n\n")[0].replace("``", "`")


def choice_section(group: str, choice: str, heading: str) -> str:
    """Return a choice: its header, what it builds on, and its keys."""
    header, body = split_header((CONF / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    content, comments = inherited(group, choice)
    parts = [f"{heading} {choice}", header]
    if page_of(group) in _AS_YAML or group in _AS_YAML:
        return "\n\n".join([*parts, f"```yaml\n{body.strip()}\n```"])
    if target := content.get("_target_"):
        parts.append(f"Builds `{target}`.")
    if also := [words for entry in content.get("defaults", []) if (words := default_words(entry))]:
        parts.append(f"Includes {', '.join(also)}.")
    keys = {k: v for k, v in content.items() if k not in ("defaults", "_target_", "name")}
    return "\n\n".join([*parts, key_rows(keys, allowed_values(group, content), comments)])


def inherited(group: str, choice: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the keys and comments of a choice, those of the choices of its group that it is made from among them."""
    path = CONF / group / f"{choice}.yaml"
    content, comments = yaml.safe_load(path.read_text(encoding="utf-8")) or {}, key_comments(path)
    for entry in content.get("defaults", []):
        if isinstance(entry, str) and (CONF / group / f"{entry}.yaml").is_file():
            earlier, said = inherited(group, entry)
            content, comments = earlier | content, said | comments
    return content, comments


def split_header(text: str) -> tuple[str, str]:
    """Split a YAML file into its header, as Markdown, and the rest."""
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    prose: list[str] = []
    for line in (line[1:].rstrip() for line in lines[:end] if "@package" not in line):
        if line.startswith("   "):
            prose += ["", "```sh", *re.split(r"\s+or\s{2,}", line.strip()), "```", ""]
        else:
            prose.append(line.strip().replace("<", "&lt;"))
    return "\n".join(prose).strip(), "\n".join(lines[end:])


def default_words(entry: Any) -> str:
    """Return an entry of a defaults list as the words of a command line, or nothing for ``_self_``."""
    if isinstance(entry, str):
        return "" if entry == "_self_" else f"`{entry}`"
    ((key, value),) = entry.items()
    group = re.sub(r"^override\s+", "", str(key)).lstrip("/").split("@")[0]
    return f"`{group}={value}`" if value is not None else ""


def key_comments(path: Path) -> dict[str, str]:
    """Return what the comments beside the keys of a YAML file say, by dotted key."""
    found: dict[str, str] = {}
    walk: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not (match := _KEY.match(line)):
            continue
        indent = len(match[1])
        walk = [step for step in walk if step[0] < indent] + [(indent, match[2])]
        if comment := _COMMENT.match(line):
            found[".".join(name for _, name in walk)] = comment[3].strip()
    return found


def key_rows(keys: Mapping[str, Any], allowed: Mapping[str, str], comments: Mapping[str, str]) -> str:
    """Return the table of keys: default, allowed values, meaning."""
    lines = ["| key | default | allowed | |", "| --- | --- | --- | --- |"]
    for key, value in flat(keys):
        rule, comment = allowed.get(key, ""), comments.get(key, "")
        if set(re.findall(r"\w+", comment)) <= set(re.findall(r"\w+", rule)):  # it only lists what is allowed
            comment = ""
        lines.append(f"| `{key}` | {_code(value)} | {cell(rule)} | {cell(comment)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their dotted keys."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=1000)
    text = text.removesuffix("\n...\n").strip()
    return f"`{text}`".replace("|", "\\|") if text else ""

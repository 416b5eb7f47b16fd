"""Composing of configurations outside ``run.py`` (for `agnews list|show|validate`), and why composing failed."""

from __future__ import annotations

import argparse
import re
import secrets
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.core.errors import AgnewsError, ConfigError
from agnews_exp.core.paths import config_folder, file_stem, project_root, run_command, shown_path
from agnews_exp.core.suggestions import Known, suggest, suggest_choice
from agnews_exp.core.text import shortened


def new_run_id() -> str:
    """Return a folder name that no two runs share: the time and six random hex digits."""
    return f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(3)}"


def register() -> None:
    """Register the resolvers ``${agnews.*:}`` and the open ``tags`` node; safe to call more than once."""
    from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
    from hydra.core.config_store import ConfigStore

    OmegaConf.register_resolver("agnews.root", lambda: str(project_root()), replace=True)
    OmegaConf.register_resolver("agnews.command", run_command, replace=True)
    OmegaConf.register_resolver("agnews.stem", file_stem, replace=True)
    OmegaConf.register_resolver("agnews.run_id", new_run_id, replace=True, use_cache=True)
    # Hydra closes every mapping against unknown keys; tags are the user's own, so theirs stays open.
    store = ConfigStore.instance()
    store.store(name="open_tags", node={"tags": OmegaConf.create({}, flags={"struct": False})}, replace=True)
    # A saved config.yaml has no settings of Hydra's: with --config-path its runs belong under runs/ all the same.
    runs, own = "${oc.select:paths.output_dir,outputs}/runs", "${agnews.run_id:}"
    sweep, job = SweepDir(runs, own + "${hydra.job.num}"), JobConf(name="run")
    hydra = HydraConf(run=RunDir(f"{runs}/{own}"), sweep=sweep, job=job)
    store.store(group="hydra", name="config", node=hydra, provider="agnews", replace=True)


_HIDDEN_GROUPS = frozenset({"hydra", "study"})  # not groups of a run
_USUAL = ("csv", "linear_svc", "distilbert", "word_tfidf", "auto")
"""Choices that are named first, in this order, where several would bring a key."""
_NOT_CHOICES = (
    "eda",
    "experiment",
    "tuning",
    "loss",
    "optimizer",
    "scheduler",
)  # no part of a run, or keys of other groups


def compose_config(
    overrides: Sequence[str], folder: Path | None = None, extra: Sequence[Path] = (), *, hydra_node: bool = False
) -> DictConfig:
    """Compose the configuration as ``run.py`` would.

    Further folders (``extra``) are searched after ``folder``, the project's conf/ by default, as Hydra does with
    ``--config-dir``; ``hydra_node`` keeps Hydra's own settings under ``hydra``.

    Raises:
        ConfigError: An override is malformed or names an unknown choice or key.
    """
    try:
        return _compose(overrides, folder or config_folder(), extra, hydra_node)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain_composition(error, overrides, folder, extra) from error
    except AgnewsError:
        raise
    except Exception as error:  # Hydra does not check all that its grammar takes, such as a choice that is a number
        raise _not_composed(error, overrides) from error


def _not_composed(error: Exception, overrides: Sequence[str]) -> ConfigError:
    reason = shortened(str(error)) or type(error).__name__
    return ConfigError(
        f"Cannot compose '{shortened(' '.join(overrides))}': {reason}", fix="write group=choice key=value"
    )


def _compose(overrides: Sequence[str], folder: Path, extra: Sequence[Path], hydra_node: bool = False) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register()
    refuse_several(overrides, folder, extra)
    GlobalHydra.instance().clear()
    words = list(overrides)
    if extra and not any(word.startswith("hydra.searchpath=") for word in words):
        places = ",".join(quoted(f"file://{place.absolute()}") for place in extra)
        words.append(f"hydra.searchpath=[{places}]")
    with initialize_config_dir(config_dir=str(folder)):
        return compose(config_name="config", overrides=words, return_hydra_config=hydra_node)


def quoted(text: str) -> str:
    """Return a text as one quoted value of Hydra's grammar, where only backslashes before a quote are escaped."""
    mark = "'" if '"' in text and "'" not in text else '"'
    escaped = re.sub(rf"(\\*)({mark}|\Z)", lambda found: found[1] * 2 + (f"\\{mark}" if found[2] else ""), text)
    return f"{mark}{escaped}{mark}"


def extra_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders that a command line names with ``--config-dir`` (or ``-cd``)."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", action="append", type=Path, default=[])
    try:
        found: list[Path] = parser.parse_known_args(list(words))[0].config_dir
    except argparse.ArgumentError:  # Hydra's own parser says what is wrong
        return []
    for folder in found:
        if not folder.is_dir():
            raise ConfigError(
                f"--config-dir={folder}: there is no such folder (from {Path.cwd()}).",
                fix=f"mkdir -p {folder}/model, and put YAML files into it",
            )
    return found


def list_groups(folder: Path | None = None, extra: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Return every config group with its choices, both sorted; nested groups are named like ``features/select``."""
    groups: dict[str, set[str]] = {}
    for root in (folder or config_folder(), *extra):
        for path in root.rglob("*.yaml"):
            parts = path.relative_to(root).with_suffix("").parts
            if len(parts) > 1 and parts[0] not in _HIDDEN_GROUPS:
                groups.setdefault("/".join(parts[:-1]), set()).add(parts[-1])
    return {group: sorted(groups[group]) for group in sorted(groups)}


def header_of(group: str, choice: str, folder: Path | None = None, extra: Sequence[Path] = ()) -> str:
    """Return the first comment line of a choice's YAML file, which says what the choice is."""
    places = [place / group / f"{choice}.yaml" for place in (folder or config_folder(), *extra)]
    path = next((place for place in places if place.is_file()), places[0])
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "@package" not in line:
            return line[2:].strip()
    return ""


def explain_composition(
    error: Exception, overrides: Sequence[str], folder: Path | None = None, extra: Sequence[Path] = ()
) -> AgnewsError:
    """Turn a Hydra or OmegaConf error into one that names the key, what is allowed, and what to type instead."""
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _explain_choice(error, overrides, folder, extra)
    if isinstance(error, OverrideParseException):
        return _explain_grammar(str(error.override), text, list_groups(folder, extra))
    if "hydra.mode changed" in text:  # an experiment file asks for MULTIRUN, which only the command line can grant
        return ConfigError(
            "This experiment is a sweep of many runs, and a sweep is asked for with -m.",
            fix=_command(overrides, extra, sweep=True),
        )
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+)'", text):
        key, _, value = found.group(1).partition("=")
        other = ""
        if re.search(r"[A-Za-z]", value) and "(" not in value and key not in list_groups(folder, extra):
            text = shlex.quote(f'{key}="{value}"' if '"' not in value else f"{key}={quoted(value)}")
            other = f"\n  one text with a comma: {shortened(text)}; a list: '{key}=[{shortened(value)}]'"
        return ConfigError(
            f"'{shortened(found.group(1))}' has several values, and a sweep over them is asked for with -m.{other}",
            fix=_command(overrides, extra, sweep=True),
        )
    if text.startswith("Multiple values for"):
        group = text.split()[3].rstrip(".")
        plain = [word.lstrip("+") if word.lstrip("+").startswith(f"{group}=") else word for word in overrides]
        return ConfigError(f"{group} is chosen twice; write it without +.", fix=_command(plain, extra))
    if found := re.search(r"Could not append to config. An item is already at '([^']+)'", text):
        plain = [word.lstrip("+") if word.lstrip("+").startswith(f"{found[1]}=") else word for word in overrides]
        return ConfigError(f"{found[1]} is there already; write it without +.", fix=_command(plain, extra))
    if found := re.search(r"Could not override '([^']+)'", text):
        return _explain_key(found.group(1), overrides, folder, extra, text)
    if found := re.search(r"(?:Error merging override|full_key:)\s+(\S+)", text):
        reason = str(error.__cause__ or error).splitlines()[0]
        return ConfigError(f"{found.group(1)}: {reason}")
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return _not_composed(error, overrides)
    cause = f": {str(error.__cause__).splitlines()[0]}" if error.__cause__ and str(error.__cause__) else ""
    return ConfigError(text.splitlines()[0] + cause if text else type(error).__name__)


def _command(words: Sequence[str], extra: Sequence[Path], *, sweep: bool = False) -> str:
    """Return the whole command to type."""
    flags = [*(["-m"] if sweep else []), *(f"--config-dir={shown_path(place)}" for place in extra)]
    return f"{run_command()} {shlex.join([*flags, *words])}"


def _explain_choice(
    error: MissingConfigException, overrides: Sequence[str], folder: Path | None, extra: Sequence[Path]
) -> ConfigError:
    """Explain a choice that does not exist: the nearest one, or -m for a list of choices."""
    found = re.search(r"Could not (?:find|load) '([^']+)'", str(error))
    group, _, choice = (found.group(1) if found else str(error.missing_cfg_file)).rpartition("/")
    options = list(error.options or list_groups(folder, extra).get(group, []))
    if not options:
        return ConfigError(str(error).splitlines()[0])
    refuse_several(overrides, folder, extra)
    guess = suggest_choice(group, choice, options)
    hint = f" Did you mean '{guess}'?" if guess else ""
    return ConfigError(
        f"Unknown choice for {group}: '{shortened(choice)}'.{hint}\n  allowed: {', '.join(sorted(options))}",
        fix=f"{group}={guess}" if guess else f"agnews list {group}",
    )


def refuse_several(words: Sequence[str], folder: Path | None = None, extra: Sequence[Path] = ()) -> None:
    """Refuse a list of choices of one group, such as ``model=[a,b]``, which Hydra would lay one over the other."""
    lists = {word.partition("=")[0]: word for word in words if re.match(r"\w+=\[", word)}
    for group in lists.keys() & (list_groups(folder, extra).keys() - {"experiment"}) if lists else ():
        choices = re.sub(r"[\[\]\s'\"]", "", lists[group].partition("=")[2])
        several = [f"{group}={choices}" if word == lists[group] else word for word in words]
        raise ConfigError(
            f"'{shortened(lists[group])}': a run has one {group}; several are a sweep, written with commas and -m.",
            fix=_command(several, extra, sweep="," in choices),
        )


def refuse_saved(config: Any) -> None:
    """Refuse ``--config-dir=RUN`` with a run's own folder: Hydra would take the config.yaml of conf/ instead."""
    for source in config.runtime.config_sources:
        folder = Path(source.path)
        if (
            source.provider == "command-line"
            and (folder / "config.yaml").is_file()
            and (folder / "status.json").is_file()
        ):
            raise ConfigError(
                f"--config-dir={shown_path(folder)}: it adds choices to conf/; a saved config.yaml is not used.",
                fix=f"{run_command()} --config-path={folder.absolute()} --config-name=config",
            )


def _explain_grammar(override: str, text: str, groups: Mapping[str, Sequence[str]]) -> ConfigError:
    """Explain an override that Hydra's grammar does not take, with one that it does."""
    key, sign, value = override.partition("=")
    bare = value.strip("\"'")
    if not sign:
        left, colon, right = (part.strip() for part in override.partition(":"))
        candidates = [f"{left}={right}"] if colon and right else []
        candidates += [f"{group}={left}" for group, names in groups.items() if left in names and "/" not in group]
    elif value.startswith("="):
        candidates = [f"{key}={value.lstrip('= ')}"]
    else:
        candidates = [f"{key}={quoted(bare)}" if '"' in bare or "\\" in bare else f'{key}="{bare}"']
    if choices := re.fullmatch(r"choice\((.*)\)", value):  # its types do not take null
        candidates.insert(0, f"{key}={choices[1].replace(' ', '')}")
    reason = text.splitlines()[1] if "\n" in text else text
    if re.search(r"Error parsing|Exception: |mismatched|extraneous|no viable", reason):
        reason = "it is no key=value" if not sign else "it holds signs that must stand between quotes"
    unclosed = value.startswith(("{", "[")) and not value.endswith(("}", "]"))
    fix = None if unclosed else next((shlex.quote(word) for word in candidates if _parses(word)), None)
    return ConfigError(
        f"Cannot read the override '{shortened(override)}': {shortened(reason)}",
        fix=fix
        or "write key=value, without spaces around =; quote the whole override for the shell when it holds "
        "spaces, braces or brackets",
    )


def _parses(word: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def explain_command(error: Exception) -> AgnewsError | None:
    """Return the user's version of an error of Hydra or OmegaConf about this command line; None for other errors."""
    if not isinstance(error, HydraException | OmegaConfBaseException) and not _while_composing(error):
        return None
    words = [a for a in sys.argv[1:] if "=" in a and not a.startswith("-")]
    try:
        return explain_composition(error, words, extra=extra_folders(sys.argv[1:]))
    except AgnewsError as missing:  # the folder of --config-dir is not there
        return missing


def _while_composing(error: Exception) -> bool:
    """Return whether an error comes from Hydra's own code: it does not check all that its grammar takes."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].startswith(("hydra.", "omegaconf.")) and "agnews_exp.experiment" not in modules


def _explain_key(
    key: str, overrides: Sequence[str], folder: Path | None, extra: Sequence[Path], text: str
) -> AgnewsError:
    """Explain a key that does not exist with up to three overrides that do."""
    groups = list_groups(folder, extra)
    choices = [o for o in overrides if o.split("=", 1)[0].lstrip("+~") in groups]
    try:
        config = _compose(choices, folder or config_folder(), extra)
    except (ConfigCompositionException, OmegaConfBaseException):
        return ConfigError(text.splitlines()[0])
    *parents, word = key.split(".")
    node: object = config
    walked: list[str] = []
    for part in parents:
        if not isinstance(node, DictConfig) or part not in node:
            word = part
            break
        node = OmegaConf.select(node, part)
        walked.append(part)
    names = [str(k) for k in node] if isinstance(node, DictConfig) else []
    if word in names:
        return ConfigError(text.splitlines()[0])
    if not walked:
        names += [group for group in groups if group not in names]
    value = next((o.partition("=")[2] for o in overrides if o.lstrip("+~").startswith(f"{key}=")), None)
    found = suggest(key, value, known_overrides(config, folder, extra))
    where = f"key in {'.'.join(walked)}" if walked else "key or group"
    hint = f" Did you mean {' or '.join(found)}?" if found else ""
    listed = ", ".join(sorted(names))
    if len(walked) == 1 and (knowing := _choices_with(walked[0], word, groups, [folder or config_folder(), *extra])):
        hint = f" These {walked[0]}s have it: {', '.join(knowing)}."
    return ConfigError(
        f"Unknown {where}: '{shortened(word)}'.{hint}\n  allowed: {listed}",
        fix=found[0] if found else None,
    )


def _choices_with(group: str, key: str, groups: Mapping[str, Sequence[str]], roots: Sequence[Path]) -> list[str]:
    """Return the choices of a group whose files, or those they begin with, have a key."""
    if group in _NOT_CHOICES:
        return []
    places = [(name, root / group / f"{name}.yaml") for name in groups.get(group, ()) for root in roots]
    return [name for name, path in places if path.is_file() and key in _keys_in(path, path.stat().st_mtime_ns)]


def known_overrides(config: DictConfig, folder: Path | None = None, extra: Sequence[Path] = ()) -> Known:
    """Return the leaf keys of a composed configuration, then those that other choices of a group would bring."""
    groups = list_groups(folder, extra)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    keys = dict.fromkeys(_leaves(plain))
    keys |= dict.fromkeys(f"hydra.sweeper.{k}" for k in ("n_trials", "direction", "study_name", "params", "storage"))
    keys |= dict.fromkeys(f"hydra.launcher.{k}" for k in ("n_jobs", "timeout", "gpus_per_job"))
    brings: dict[str, str] = {}
    for root in (folder or config_folder(), *extra):
        for group, names in groups.items():
            for name in sorted(names, key=lambda name: (_USUAL.index(name) if name in _USUAL else 9, name)):
                path = root / group / f"{name}.yaml"
                if "/" in group or not path.is_file() or group in _NOT_CHOICES:
                    continue
                for key in _keys_in(path, path.stat().st_mtime_ns):
                    whole = f"{group}.{key}"
                    if key != "defaults" and "." not in key and whole not in keys:
                        keys[whole] = None
                        brings[whole] = f"{group}={name}"
    return Known(list(keys), groups, brings)


@cache
def _keys_in(path: Path, _modified_ns: int) -> tuple[str, ...]:
    """Return the keys of a choice's file and of those choices of its group that it begins with."""
    content = yaml.load(path.read_bytes(), yaml.CSafeLoader)
    if not isinstance(content, dict):
        return ()
    parents = [path.parent / f"{entry}.yaml" for entry in content.get("defaults", ()) if isinstance(entry, str)]
    inherited = [key for place in parents if place.is_file() for key in _keys_in(place, place.stat().st_mtime_ns)]
    return tuple(dict.fromkeys([*_leaves(content), *inherited]))


def _leaves(content: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys of all values, with dots between levels; an empty mapping is a value."""
    for key, child in content.items():
        if isinstance(child, Mapping) and child:
            yield from _leaves(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"

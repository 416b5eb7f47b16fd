"""The command reference of the documentation site, from the parsers of the `agnews` command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from agnews_exp.cli import build_parser


def cell(text: str) -> str:
    """Return a text as the cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> str:
    """Return the reference of the `agnews` command, from its parsers."""
    parser = build_parser()
    return "\n\n".join([
        "# Commands",
        f"{parser.description} Generated from the parsers; `agnews COMMAND --help` says the same. Where "
        "`overrides` are taken they are those of `agnews run`.",
        "| command | |\n| --- | --- |\n" + "\n".join(
            f"| [`{name}`](#{_anchor(name)}) | {cell(text)} |" for name, text, _ in subcommands(parser)
        ),
        *command_sections(parser),
    ]) + "\n"  # fmt: skip


def _anchor(name: str) -> str:
    return "agnews-" + name.replace(" ", "-")


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield name, help and parser of every sub-command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((name, texts.get(name, ""), sub) for name, sub in action.choices.items())


def command_sections(parser: argparse.ArgumentParser, heading: str = "##") -> Iterator[str]:
    """Yield the sections of a parser's sub-commands, in order, nested ones after their parent."""
    for name, text, sub in subcommands(parser):
        sub.formatter_class = _wide
        title = f"{heading} {sub.prog}"
        if name == "run":
            usage = "usage: agnews run [-m] [--config-dir FOLDER] [overrides ...]"
            yield f"{title}\n\n{text}.\n\n```text\n{usage}\n```\n\nSee [Configuration](config/index.md)."
            continue
        parts = [title, text[:1].upper() + text[1:] + ".", f"```text\n{sub.format_usage().strip()}\n```"]
        yield "\n\n".join([*parts, *filter(None, (argument_rows(sub), sub.epilog))])
        yield from command_sections(sub, heading + "#")


def _wide(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, width=100)


def argument_rows(parser: argparse.ArgumentParser) -> str:
    """Return the table of a command's arguments, or nothing."""
    lines = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        name = ", ".join(action.option_strings) or action.dest
        shown = action.default not in (None, False, argparse.SUPPRESS, []) and "default" not in (action.help or "")
        notes = [(action.help or "") % {"default": action.default, "prog": parser.prog}]
        notes += [f"one of {', '.join(f'`{choice}`' for choice in action.choices)}"] if action.choices else []
        notes += [f"default `{action.default}`"] if shown else []
        lines.append(f"| `{name}` | {cell('; '.join(note for note in notes if note))} |")
    return "| argument | |\n| --- | --- |\n" + "\n".join(lines) if lines else ""

"""The generated pages of the documentation site: every config group and choice, every command, CONTRIBUTING.

MkDocs runs this file as a hook (mkdocs.yml); `python scripts/docs_pages.py FOLDER` writes the same pages as Markdown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docs_commands import commands_page
from docs_config import CONFIG_PAGES, config_pages

REPO = Path(__file__).resolve().parents[1]
COMMANDS_PAGE = "reference/commands.md"
NAV_TITLE = "Configuration"
"""The entry of mkdocs.yml's nav whose pages are filled in here."""


def on_config(config: Any) -> Any:
    """Fill the generated pages into the navigation."""
    pages = [*(page for page in config_pages() if page.startswith(CONFIG_PAGES))]
    _fill(config["nav"], pages)
    return config


def _fill(nav: list[Any], pages: list[str]) -> None:
    for entry in nav:
        for title, value in entry.items() if isinstance(entry, dict) else ():
            if title == NAV_TITLE:
                entry[title] = pages
            elif isinstance(value, list):
                _fill(value, pages)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site's files."""
    from mkdocs.structure.files import File

    for path, text in all_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def all_pages() -> dict[str, str]:
    """Return every generated page: its path in the site, and its Markdown."""
    return config_pages() | {COMMANDS_PAGE: commands_page(), "contributing.md": contributing_page()}


def contributing_page() -> str:
    """Return CONTRIBUTING.md as a page of the site."""
    return (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")


if __name__ == "__main__":
    for page, content in all_pages().items():
        file = Path(sys.argv[1]) / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")

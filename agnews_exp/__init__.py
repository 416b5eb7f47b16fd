"""agnews-exp: configuration-composed experiments for text classification."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["__version__"]


def _version() -> str:
    """Return the version of a source checkout, which may have changed since pip noted it, or else the installed one."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        about = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if about.get("name") == "agnews-exp" and "version" in about:
            return str(about["version"])
    try:
        return version("agnews-exp")
    except PackageNotFoundError:  # a source tree on PYTHONPATH that was never installed
        return "0+unknown"


__version__ = _version()

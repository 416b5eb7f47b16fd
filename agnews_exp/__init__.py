"""agnews-exp: configuration-composed experiments for text classification."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("agnews-exp")
except PackageNotFoundError:  # a source tree on PYTHONPATH that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]

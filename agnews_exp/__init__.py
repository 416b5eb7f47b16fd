"""Configuration-composed experiments for text classification: compose, train, judge, compare and serve."""

__version__ = "0.2.0.dev0"

__all__ = ["__version__"]

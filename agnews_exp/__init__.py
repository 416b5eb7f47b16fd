"""Configuration-composed experiments for text classification: compose, train, judge, compare and serve.

``import agnews_exp as ag`` gives what :mod:`agnews_exp.api` has; nothing of it is imported before it is asked for.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.2.0.dev0"

__all__ = [
    "Comparison", "Run", "Sweep", "__version__", "compare", "evaluate", "find_run", "report", "rows", "run", "runs",
    "sweep",
]  # fmt: skip

_ROOMS = ("compare", "report")
"""Functions that have the name of a room; the room can be called in its stead."""


class _Room(ModuleType):
    def __call__(self, *arguments: object, **options: object) -> object:
        return getattr(import_module("agnews_exp.api"), self.__name__.rpartition(".")[2])(*arguments, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if name in _ROOMS and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> object:
        if name in _ROOMS:
            return import_module(f"agnews_exp.{name}")
        if name in __all__:
            return getattr(import_module("agnews_exp.api"), name)
        raise AttributeError(f"module 'agnews_exp' has no attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package

"""Puts a module with ill-behaved estimators on the import path, for jobs that must fail in a real process.

It is found through PYTHONPATH; the module poses as part of agnews_exp.models, the only place of ours that a
configuration may name.
"""

import importlib.abc
import importlib.util
import sys
from pathlib import Path

NAME = "agnews_exp.models.faults"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != NAME:
            return None
        return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name("estimators.py"))


sys.meta_path.insert(0, _Finder())

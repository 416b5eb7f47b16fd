"""Hiding torch from skops while it is imported hides it from no other thread."""

from __future__ import annotations

import importlib
import sys
import threading

import pytest

from agnews_exp.models.persistence import _HideTorch


def test_torch_is_hidden_from_the_thread_that_hides_it_alone(monkeypatch):
    pytest.importorskip("torch")
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_HideTorch(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="torch"):
        importlib.import_module("torch.version")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(importlib.util.find_spec("torch")))
    thread.start()
    thread.join()
    assert found[0] is not None

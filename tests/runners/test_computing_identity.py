"""How this machine computes a network is a part of its identity where its answers depend on it."""

from __future__ import annotations

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.experiment import expected_fingerprint
from agnews_exp.runners import devices


def identity(*words):
    return expected_fingerprint(check_config(compose_config(["data=sample", "trainer=cpu", *words])), "rows")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_the_precision_that_this_processor_gets(monkeypatch, fast):
    monkeypatch.setattr(devices, "cpu_has_fast_bf16", lambda: fast)
    meant = "bf16" if fast else "32"
    other = "32" if fast else "bf16"
    auto = identity("model=distilbert")
    assert auto == identity("model=distilbert", f"trainer.precision={meant}")
    assert auto != identity("model=distilbert", f"trainer.precision={other}")


def test_a_small_network_is_the_same_on_every_processor(monkeypatch):
    found = set()
    for fast in (True, False):
        monkeypatch.setattr(devices, "cpu_has_fast_bf16", lambda fast=fast: fast)
        found.add(identity("model=tiny"))
    assert len(found) == 1


def test_the_number_of_processes_counts_where_masks_are_drawn():
    still = ("model=text_cnn", "model.dropout=0.0", "model.embedding_dropout=0.0")
    assert identity(*still, "trainer.devices=2") == identity(*still)
    for drawing in (("model=text_cnn",), ("model=distilbert", "model.dropout=0.0")):
        assert identity(*drawing, "trainer.devices=2") != identity(*drawing)
        assert identity(*drawing, "trainer.devices=1") == identity(*drawing)
    adapters = ("model=distilbert", "model.dropout=0.0", "model.attention_dropout=0.0", "model.lora_dropout=0.1")
    assert identity(*adapters, "trainer.devices=2") == identity(*adapters)

"""Fast dropout: torch's distribution and scale, repeatable by torch's seed."""

from __future__ import annotations

import pytest
import torch

from agnews_exp.models.transformer import FastDropout, use_fast_dropout


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_of_zeros_scale_and_gradient_are_those_of_dropout(p, dtype):
    torch.manual_seed(0)
    values = torch.ones(300, 1001, dtype=dtype, requires_grad=True)
    dropped = FastDropout(p)(values)
    dropped.float().sum().backward()
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.005)  # five standard errors at p = .5
    assert kept.float().mean(0).std().item() == pytest.approx((p * (1 - p) / 300) ** 0.5, rel=0.1)
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 1 / (1 - p)), rtol=5e-3, atol=0)
    torch.testing.assert_close(values.grad, dropped.detach())


def test_masks_follow_torchs_seed_and_differ_from_call_to_call():
    layer, values = FastDropout(0.5), torch.ones(50, 7)
    torch.manual_seed(3)
    first, second = layer(values), layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
    assert not torch.equal(first, second)


def test_evaluation_and_zero_probability_change_nothing():
    values = torch.randn(4, 5)
    assert torch.equal(FastDropout(0.5).eval()(values), values)
    assert torch.equal(FastDropout(0.0)(values), values)
    assert torch.count_nonzero(FastDropout(1.0)(values)) == 0


def test_every_dropout_of_a_network_is_replaced_and_its_weights_keep_their_names():
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Dropout(0.3)))
    names = list(network.state_dict())
    use_fast_dropout(network)
    assert type(network[1][0]) is FastDropout
    assert network[1][0].p == 0.3
    assert list(network.state_dict()) == names

"""A new network predicts foreground with the probability that was asked for."""

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import SmallUNet, UNet, with_foreground_prior

FEATURES = (4, 4, 8, 8, 8, 4)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_head_starts_at_the_prior_and_other_heads_stay(classes):
    torch.manual_seed(0)
    network = UNet(in_channels=1, out_channels=classes + 3, features=FEATURES)
    other = network.final_conv.bias[classes:].clone()
    with_foreground_prior(network, 0.01, classes=classes)
    with torch.no_grad():
        network.final_conv.weight.zero_()
        probability = network(torch.rand(1, 1, 32, 32, 32))[:, :classes].softmax(1)
    torch.testing.assert_close(probability[:, 1:].sum(1), torch.full((1, 32, 32, 32), 0.01))
    torch.testing.assert_close(network.final_conv.bias[classes:], other)


def test_each_organ_that_may_overlap_starts_at_the_prior():
    network = SmallUNet(in_channels=1, out_channels=3, base_channels=4, depth=2)
    with_foreground_prior(network, 0.02, classes=3, overlapping=True)
    with torch.no_grad():
        network.final_conv.weight.zero_()
        probability = network.eval()(torch.rand(2, 1, 16, 16)).sigmoid()
    torch.testing.assert_close(probability, torch.full((2, 3, 16, 16), 0.02))


def test_without_prior_nothing_changes():
    network = UNet(in_channels=1, out_channels=2, features=FEATURES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert with_foreground_prior(network, None, classes=2) is network
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("prior", [0, 1, -0.1, True, "rare"])
def test_a_prior_that_is_no_probability_is_refused(prior):
    with pytest.raises(InputError, match="foreground_prior"):
        with_foreground_prior(UNet(in_channels=1, out_channels=2, features=FEATURES), prior, classes=2)

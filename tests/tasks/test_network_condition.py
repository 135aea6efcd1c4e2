"""A network that is told about its images: each view's condition reaches it, in every kind of pass."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtmed.errors import InputError
from mtmed.networks import BigUNet, SmallUNet
from mtmed.tasks import MultiTaskModel, Task, TaskOutput

FILM: dict[str, Any] = {"features": ["slice_position", "day_number"], "mean": [0.5, 9.0], "deviation": [0.3, 7.0]}
CONTEXT: dict[str, Any] = {"positions": (0, 1, 2)}


class Kept(Task):
    """Keeps what it is given."""

    def forward(self, features, views, context):
        self.seen = features
        read = [features[view].logits if self.needs == "logits" else features[view].encoded[-1] for view in self.views]
        return TaskOutput({"kept": sum(one.square().mean() for one in read)})


def make(normalisation: bool = True) -> SmallUNet:
    """With a condition that matters; without normalisation views share one pass."""
    torch.manual_seed(0)
    network = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2, film=FILM)
    for parameter in network.film.parameters():
        nn.init.normal_(parameter, std=0.3)
    for module in [] if normalisation else list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return network


def views_of(*names: str, sizes: tuple[int, ...] = (32, 32)) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: {
            "image": torch.rand(3, 1, size, size, generator=generator),
            "condition": torch.rand(3, 2, generator=generator),
        }
        for name, size in zip(names, sizes, strict=False)
    }


@pytest.mark.parametrize("normalisation", [False, True])
@pytest.mark.parametrize("sizes", [(32, 32), (32, 16)])
def test_each_view_is_encoded_with_its_own_condition(normalisation, sizes, make_context):
    network, views = make(normalisation).eval(), views_of("first", "second", sizes=sizes)
    shared = Kept(views=("first",), needs="logits")
    other = Kept(views=("second",), needs="encoded")
    other.forward = lambda features, views, context: TaskOutput({"other": features["second"].encoded[-1].sum()})
    model = MultiTaskModel(network=network, tasks={"shared": shared, "other": other}).eval()
    model(views, make_context(**CONTEXT))
    assert set(shared.seen) == {"first", "second"}
    for name, features in shared.seen.items():
        expected = network.encode(views[name]["image"], views[name]["condition"])
        for found, level in zip(features.encoded, expected, strict=True):
            torch.testing.assert_close(found, level, rtol=1e-4, atol=1e-5)
    expected = network.head(network.decode(network.encode(views["first"]["image"], views["first"]["condition"])))
    torch.testing.assert_close(shared.seen["first"].logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("needs", ["encoded", "logits"])
def test_exactly_the_parameters_that_are_left_to_train_get_a_gradient(needs, make_context):
    network = make()
    model = MultiTaskModel(network=network, tasks={"kept": Kept(views=("first",), needs=needs)})
    losses, _ = model(views_of("first"), make_context(**CONTEXT))
    losses["kept"].backward()
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.film.parameters())
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    outside = {name for name, _ in network.named_parameters() if not name.startswith(network.encoder_prefixes)}
    assert frozen == (outside if needs == "encoded" else set())


def test_layers_that_were_frozen_stay_frozen_and_in_evaluation(make_context):
    network = BigUNet(in_channels=1, out_channels=2, freeze_first=True, film=FILM)
    model = MultiTaskModel(network=network, tasks={"kept": Kept(views=("first",), needs="logits")})
    model.train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    losses, _ = model(views_of("first"), make_context(**CONTEXT))
    losses["kept"].backward()
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())
    assert all(parameter.grad is not None for parameter in network.bridge.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())


def test_a_network_that_is_told_nothing_needs_no_condition(make_context):
    network = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2)
    task = Kept(views=("first",), needs="logits")
    model = MultiTaskModel(network=network, tasks={"kept": task}).eval()
    views = views_of("first")
    with_condition, _ = model(views, make_context(**CONTEXT))
    without, _ = model({"first": {"image": views["first"]["image"]}}, make_context(**CONTEXT))
    assert torch.equal(with_condition["kept"], without["kept"])


def test_a_missing_condition_is_named(make_context):
    model = MultiTaskModel(network=make(), tasks={"kept": Kept(views=("first",), needs="logits")})
    (view,) = views_of("first").values()
    with pytest.raises(InputError, match=r"view first: the network is told slice_position, day_number, .* none"):
        model({"first": {"image": view["image"]}}, make_context(**CONTEXT))
    with pytest.raises(InputError, match=r"the batch holds a tensor \(3, 1\)"):
        model({"first": {**view, "condition": view["condition"][:, :1]}}, make_context(**CONTEXT))

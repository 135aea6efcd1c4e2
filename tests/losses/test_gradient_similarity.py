"""Auxiliary losses that count as far as they help, against gradients taken apart by hand."""

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from mtmed.errors import InputError
from mtmed.losses import ConstantWeighting, GradientSimilarityWeighting
from mtmed.networks import DenseUNet, UNet
from mtmed.tasks import MultiTaskModel, Segmentation, SlicePosition, StepContext

CONTEXT = StepContext(seed=0, step=0, positions=(0, 1))


class Toy(nn.Module):
    """A shared matrix with a main head and two auxiliary ones, in float64."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def make(*shape):
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.shared, self.main, self.left, self.right, self.alone = make(4, 3), make(3), make(3), make(3), make(2)
        self.data = torch.randn(6, 4, generator=generator, dtype=torch.float64)
        self.targets = torch.randn(3, 6, generator=generator, dtype=torch.float64)

    def losses(self):
        hidden = torch.tanh(self.data @ self.shared)
        errors = [
            (hidden @ head - y).square()
            for head, y in zip((self.main, self.left, self.right), self.targets, strict=True)
        ]
        return {
            "bce": errors[0].mean() + self.alone.square().sum(),
            "dice": errors[0].abs().sqrt().mean(),
            "left": errors[1].mean(),
            "right": errors[2].mean(),
        }


WEIGHTS = {"bce": 0.6, "dice": 0.4, "left": 0.5, "right": 2.0}


def by_hand(toy):
    """Gradients that the rule asks for, by name, from one backward pass for each loss."""
    names, parameters = zip(*toy.named_parameters(), strict=True)
    gradients = {}
    for name in WEIGHTS:
        parts = torch.autograd.grad(toy.losses()[name], parameters, allow_unused=True)
        gradients[name] = {n: None if g is None else g.numpy() for n, g in zip(names, parts, strict=True)}

    def weighted(losses, name):
        found = [WEIGHTS[loss] * gradients[loss][name] for loss in losses if gradients[loss][name] is not None]
        return sum(found) if found else 0.0

    main = weighted(["bce", "dice"], "shared")
    weights = {"bce": 0.6, "dice": 0.4}
    expected = {name: weighted(["bce", "dice"], name) for name in names}
    for loss in ("left", "right"):
        own = gradients[loss]["shared"]
        cosine = (main * own).sum() / np.sqrt((main**2).sum() * (own**2).sum())
        weights[loss] = WEIGHTS[loss] * max(cosine, 0.0)
        expected["shared"] = expected["shared"] + weights[loss] * own
        expected[loss] = expected[loss] + WEIGHTS[loss] * gradients[loss][loss]
    return expected, weights


@pytest.mark.parametrize("seed", range(6))
def test_gradients_and_weights_are_those_of_the_rule(seed):
    toy = Toy(seed)
    expected, weights = by_hand(toy)
    weighting = GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=["left", "right"], parameters=toy.parameters())
    losses = toy.losses()
    weighted = weighting(losses, 0)
    weighted.total.backward()
    assert weighted.weights == pytest.approx(weights, rel=1e-10)
    for name, parameter in toy.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), expected[name], rtol=1e-10, atol=1e-12)
    value = sum(weights[name] * float(loss.detach()) for name, loss in losses.items())
    assert float(weighted.total.detach()) == pytest.approx(value, rel=1e-10)


def test_the_seeds_have_gradients_that_agree_and_such_that_do_not():
    found = [by_hand(Toy(seed))[1][name] for seed in range(6) for name in ("left", "right")]
    assert 0.0 in found
    assert max(found) > 0


def test_an_equal_auxiliary_loss_counts_in_full_and_an_opposite_one_not_at_all():
    shared = nn.Parameter(torch.tensor([1.0, -2.0]))
    loss = shared.square().sum()
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0)):
        weighting = GradientSimilarityWeighting(
            weights={"main": 1.0, "auxiliary": 1.0}, auxiliary=["auxiliary"], parameters=[shared]
        )
        weighted = weighting({"main": loss, "auxiliary": sign * 3 * loss}, 0)
        assert weighted.weights["auxiliary"] == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(weighted.total, shared, retain_graph=True)
        torch.testing.assert_close(gradient, (1 + 3 * expected) * 2 * shared.detach())


def test_an_auxiliary_loss_without_gradient_has_the_weight_zero_and_one_that_is_left_out_none():
    toy = Toy()
    weighting = GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=["left", "right"], parameters=toy.parameters())
    losses = toy.losses()
    del losses["right"]
    losses["left"] = 0.0 * losses["left"]
    assert weighting(losses, 0).weights == {"bce": 0.6, "dice": 0.4, "left": 0.0}
    del losses["left"]
    constant = ConstantWeighting(weights=WEIGHTS)(losses, 0)
    alone = weighting(losses, 0)
    assert torch.equal(alone.total, constant.total)
    assert alone.weights == constant.weights


def test_the_scale_of_either_loss_does_not_change_the_similarity():
    toy = Toy(1)
    found = []
    for factor in (1.0, 1e-12, 1e12):
        weighting = GradientSimilarityWeighting(
            weights=WEIGHTS, auxiliary=["left", "right"], parameters=toy.parameters()
        )
        found.append(weighting({name: factor * loss for name, loss in toy.losses().items()}, 0).weights)
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])


def test_parameters_do_not_become_the_weightings_own():
    weighting = GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=["left"], parameters=Toy().parameters())
    assert not list(weighting.parameters())
    assert weighting.state_dict() == {}


def make_model(network):
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    torch.manual_seed(1)
    return MultiTaskModel(network=network, tasks={"s": Segmentation(loss=loss), "p": SlicePosition(hidden=8)})


def make_views(spatial_dims):
    image = torch.rand(2, 1, *[32] * spatial_dims, generator=torch.Generator().manual_seed(1))
    position = torch.tensor([0.2, 0.9])
    return {"patch": {"image": image, "label": (image > 0.5).byte(), "slice_position": position}}


@pytest.mark.parametrize("make_network", [
    lambda: UNet(in_channels=1, out_channels=2, features=(2, 4, 4, 8, 12, 2), spatial_dims=2, norm="batch"),
    lambda: UNet(in_channels=1, out_channels=2, features=(2, 2, 4, 4, 8, 2), norm=("group", {"num_groups": 2})),
    lambda: DenseUNet(in_channels=1, out_channels=2, block_layers=(1, 1, 1, 1), spatial_dims=2, recompute=True),
])  # fmt: skip
def test_a_real_network_keeps_its_decoder_out_of_the_comparison(make_network):
    torch.manual_seed(0)
    network = make_network()
    model = make_model(network)
    views = make_views(network.spatial_dims)
    weights = {"segmentation": 0.9, "slice_position": 0.5}
    gradients = {}
    for name in weights:
        model.zero_grad()
        model(views, CONTEXT)[0][name].backward()
        gradients[name] = {n: p.grad for n, p in model.named_parameters()}
    model.zero_grad()
    losses, _ = model(views, CONTEXT)
    weighting = GradientSimilarityWeighting(
        weights=weights, auxiliary=["slice_position"], parameters=network.parameters()
    )
    weighted = weighting(losses, 0)
    weighted.total.backward()
    main, auxiliary = gradients["segmentation"], gradients["slice_position"]
    both = [n for n in main if main[n] is not None and auxiliary[n] is not None]
    assert both
    assert all(n.removeprefix("network.").startswith(network.encoder_prefixes) for n in both)
    a, b = (torch.cat([part[n].double().flatten() for n in both]).numpy() for part in (main, auxiliary))
    similarity = max(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), 0.0)
    assert weighted.weights["slice_position"] == pytest.approx(0.5 * similarity, abs=1e-4)
    for name, parameter in model.named_parameters():
        expected = 0.0
        if main[name] is not None:
            expected = expected + 0.9 * main[name]
        if auxiliary[name] is not None:
            expected = expected + 0.5 * (similarity if name in both else 1.0) * auxiliary[name]
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: n + text)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_finds_the_similarity_of_float32_and_bears_a_loss_scale(dtype):
    torch.manual_seed(0)
    network = UNet(in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4), spatial_dims=2)
    model, found = make_model(network), {}
    weights = {"segmentation": 1.0, "slice_position": 1.0}
    for one in (torch.float32, dtype):
        weighting = GradientSimilarityWeighting(
            weights=weights, auxiliary=["slice_position"], parameters=network.parameters()
        )
        with torch.autocast("cpu", dtype=one, enabled=one != torch.float32):
            losses, _ = model(make_views(2), CONTEXT)
        weighted = weighting(losses, 0)
        model.zero_grad()
        (1024 * weighted.total).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) / 1024
        found[one] = weighted.weights["slice_position"], gradient
    assert found[dtype][0] == pytest.approx(found[torch.float32][0], abs=0.1)
    assert found[dtype][0] > 0
    assert torch.cosine_similarity(found[dtype][1], found[torch.float32][1], dim=0) > 0.98


def test_gradients_that_overflow_leave_the_auxiliary_loss_out_of_the_step():
    shared = nn.Parameter(torch.tensor([1.0, 2.0]))
    weighting = GradientSimilarityWeighting(weights={"m": 1.0, "a": 1.0}, auxiliary=["a"], parameters=[shared])
    main = shared.square().sum()
    weighted = weighting({"m": main, "a": _Overflowing.apply(shared)}, 0)
    assert weighted.weights["a"] == 0.0
    assert torch.isfinite(weighted.total)


class _Overflowing(torch.autograd.Function):
    """A finite loss whose gradient is not."""

    @staticmethod
    def forward(ctx, tensor):
        ctx.save_for_backward(tensor)
        return tensor.sum()

    @staticmethod
    def backward(ctx, gradient):
        (tensor,) = ctx.saved_tensors
        return gradient * 1e38 * torch.ones_like(tensor)


def test_wrong_arguments_are_refused():
    parameter = nn.Parameter(torch.ones(2))
    with pytest.raises(InputError, match="auxiliary: names 'side', which has no weight"):
        GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=["side"], parameters=[parameter])
    with pytest.raises(InputError, match="parameters: there are none"):
        GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=["left"], parameters=[])
    with pytest.raises(InputError, match="weights: gives loss 'bce' the weight nan"):
        GradientSimilarityWeighting(weights={"bce": float("nan")}, auxiliary=[], parameters=[parameter])
    toy = Toy()
    weighting = GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=["left"], parameters=[toy.alone])
    with pytest.raises(InputError, match="none is reached by 'left' and the main task"):
        weighting(toy.losses(), 0)
    with pytest.raises(InputError, match="auxiliary: names all losses"):
        weighting({"left": toy.losses()["left"]}, 0)
    with pytest.raises(InputError, match="none for loss 'x'"):
        weighting({**toy.losses(), "x": torch.tensor(1.0)}, 0)

"""Aggregated gradients, against TorchJD's aggregators on the matrix of gradients and against rules by hand."""

import sys

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from mtmed.errors import InputError
from mtmed.losses import ConstantWeighting, GradientAggregation
from mtmed.networks import UNet
from mtmed.tasks import MultiTaskModel, Segmentation, SlicePosition, StepContext

aggregation = pytest.importorskip("torchjd.aggregation")

WEIGHTS = {"bce": 0.6, "dice": 0.4, "left": 0.5, "right": 2.0}
TASKS = (("bce", "dice"), ("left",), ("right",))
# those that need no further package and draw nothing
AGGREGATORS = {
    "aligned_mtl": aggregation.AlignedMTL,
    "dualproj": aggregation.DualProj,
    "imtl_g": aggregation.IMTLG,
    "mgda": aggregation.MGDA,
    "upgrad": aggregation.UPGrad,
}


class Toy(nn.Module):
    """A shared matrix with a main head, two auxiliary ones and a parameter that two of the three tasks reach."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def make(*shape):
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.shared, self.main, self.left, self.right, self.pair = make(4, 3), make(3), make(3), make(3), make(2)
        self.data = torch.randn(6, 4, generator=generator, dtype=torch.float64)
        self.targets = torch.randn(3, 6, generator=generator, dtype=torch.float64)

    def losses(self):
        hidden = torch.tanh(self.data @ self.shared)
        errors = [
            (hidden @ head - y).square()
            for head, y in zip((self.main, self.left, self.right), self.targets, strict=True)
        ]
        return {
            "bce": errors[0].mean() + self.pair.square().sum(),
            "dice": errors[0].abs().sqrt().mean(),
            "left": errors[1].mean() + (self.pair - 1).square().sum(),
            "right": errors[2].mean(),
        }


def make(toy, aggregator="upgrad", **options):
    return GradientAggregation(
        weights=WEIGHTS, auxiliary=["left", "right"], parameters=toy.parameters(), aggregator=aggregator, **options
    )


def task_gradients(toy):
    """Gradient of each task's weighted losses for each parameter, 0 where it does not reach it."""
    found = []
    for task in TASKS:
        total = sum(WEIGHTS[name] * toy.losses()[name] for name in task)
        names, parameters = zip(*toy.named_parameters(), strict=True)
        parts = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        found.append(dict(zip(names, parts, strict=True)))
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", AGGREGATORS)
def test_shared_parameters_get_what_torchjd_makes_of_the_matrix_of_gradients_and_heads_their_own(name, seed):
    toy = Toy(seed)
    gradients = task_gradients(toy)
    rows = torch.stack([torch.cat([one["shared"].flatten(), one["pair"]]) for one in gradients])
    # at the size at which its guards against small numbers see it
    size = rows.square().sum(1).mean().sqrt()
    expected = size * AGGREGATORS[name]()(rows / size)
    weighted = make(toy, name)(toy.losses(), 0)
    weighted.total.backward()
    torch.testing.assert_close(toy.shared.grad.flatten(), expected[:12])
    torch.testing.assert_close(toy.pair.grad, expected[12:])
    for number, head in enumerate(("main", "left", "right")):
        torch.testing.assert_close(getattr(toy, head).grad, gradients[number][head])


def test_weights_in_force_are_those_on_the_shared_parameters_and_make_the_value():
    toy = Toy()
    losses = toy.losses()
    weighted = make(toy)(losses, 0)
    weighted.total.backward()
    assert weighted.weights["bce"] / weighted.weights["dice"] == pytest.approx(0.6 / 0.4)
    value = sum(weight * float(losses[name].detach()) for name, weight in weighted.weights.items())
    assert float(weighted.total.detach()) == pytest.approx(value)
    parts = [torch.autograd.grad(toy.losses()[name], toy.shared)[0] for name in WEIGHTS]
    expected = sum(weighted.weights[name] * part for name, part in zip(WEIGHTS, parts, strict=True))
    torch.testing.assert_close(toy.shared.grad, expected)


def _two(first, second, aggregator, **options):
    """Gradient at a shared vector of two losses that are linear in it."""
    shared = nn.Parameter(torch.zeros(len(first), dtype=torch.float64))
    losses = {name: shared @ torch.tensor(one, dtype=torch.float64) for name, one in (("m", first), ("a", second))}
    weighting = GradientAggregation(
        weights={"m": 1.0, "a": 1.0}, auxiliary=["a"], parameters=[shared], aggregator=aggregator, **options
    )
    weighting(losses, 0).total.backward()
    return shared.grad.numpy()


def test_pcgrad_of_two_tasks_projects_each_on_the_plane_of_the_other():
    first, second = np.array([1.0, 0.5, -0.3]), np.array([-2.0, 0.4, 0.1])
    inner = first @ second
    assert inner < 0
    expected = first + second - inner * (second / (second @ second) + first / (first @ first))
    np.testing.assert_allclose(_two(first, second, "pcgrad"), expected)
    np.testing.assert_allclose(_two(first, -second, "pcgrad"), first - second)


def test_mgda_of_two_tasks_is_the_shortest_vector_between_them():
    first, second = np.array([1.0, 0.5, -0.3]), np.array([-2.0, 0.4, 0.1])
    shares = np.linspace(0, 1, 100001)[:, None]
    between = shares * first + (1 - shares) * second
    expected = between[np.linalg.norm(between, axis=1).argmin()]
    np.testing.assert_allclose(_two(first, second, "mgda"), expected, atol=1e-4)


@pytest.mark.parametrize("size", [1e-9, 1e6])
def test_upgrad_opposes_no_task_at_any_size_of_gradients_and_is_the_mean_without_conflict(size):
    first, second = size * np.array([1.0, 0.5, -0.3]), size * np.array([-2.0, 0.4, 0.1])
    found = _two(first, second, "upgrad")
    assert min(found @ first, found @ second) > -1e-3 * size**2
    np.testing.assert_allclose(_two(first, first + 2 * abs(first), "upgrad"), first + abs(first), rtol=1e-3)


def test_the_order_of_pcgrad_is_a_function_of_seed_and_step_and_leaves_the_global_state_alone():
    rows = torch.tensor([[1.0, 0.2], [-0.9, 0.7], [-0.3, -1.0]])

    def gradient(seed, step):
        shared = nn.Parameter(torch.zeros(2))
        losses = dict(zip(("m", "a", "b"), rows @ shared, strict=True))
        weights = dict.fromkeys(losses, 1.0)
        made = GradientAggregation(
            weights=weights, auxiliary=["a", "b"], parameters=[shared], aggregator="pcgrad", seed=seed
        )
        made(losses, step).total.backward()
        return shared.grad

    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = {place: gradient(*place) for place in [(0, step) for step in range(8)] + [(1, 0)]}
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert all(torch.equal(gradient(*place), value) for place, value in found.items())
    assert any(not torch.equal(found[0, 0], value) for value in found.values())


def test_a_loss_without_gradient_has_no_part_and_one_that_is_left_out_none():
    toy = Toy()
    losses = toy.losses()
    losses["left"] = 0.0 * toy.shared.sum()
    alone = {name: loss for name, loss in losses.items() if name != "left"}
    both, found = make(toy, "imtl_g")(losses, 0), make(toy, "imtl_g")(alone, 0)
    assert both.weights == pytest.approx({**found.weights, "left": WEIGHTS["left"]})
    main = {name: losses[name] for name in ("bce", "dice")}
    constant, one = ConstantWeighting(weights=WEIGHTS)(main, 0), make(toy)(main, 0)
    assert torch.equal(one.total, constant.total)
    assert one.weights == constant.weights


def test_gradients_that_are_not_finite_make_the_step_the_plain_sum():
    shared = nn.Parameter(torch.tensor([0.0, 2.0]))
    weighting = GradientAggregation(weights={"m": 1.0, "a": 1.0}, auxiliary=["a"], parameters=[shared])
    # the gradient of a root at 0 is infinite
    weighted = weighting({"m": shared.square().sum(), "a": shared.sqrt().sum()}, 0)
    assert weighted.weights == {"m": 1.0, "a": 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_with_two_tasks_trains_with_it(dtype):
    torch.manual_seed(0)
    network = UNet(in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4), spatial_dims=2)
    tasks = {"segmentation": Segmentation(loss=DiceCELoss(to_onehot_y=True, softmax=True)), "position": SlicePosition()}
    model = MultiTaskModel(network=network, tasks=tasks)
    weighting = GradientAggregation(
        weights={"segmentation": 1.0, "slice_position": 1.0},
        auxiliary=["slice_position"],
        parameters=network.parameters(),
    )
    image = torch.randn(2, 1, 32, 32)
    view = {"image": image, "label": (image > 1).long(), "slice_position": torch.tensor([0.2, 0.7])}
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        losses, _ = model({"patch": view}, StepContext(seed=0, step=0, positions=(0, 1)))
    weighting(losses, 0).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    assert sum(p.grad is not None for p in network.parameters()) > 10


def test_missing_packages_and_wrong_arguments_are_refused(monkeypatch):
    toy = Toy()
    with pytest.raises(InputError, match="aggregator: is 'sum'; choose one of aligned_mtl, cagrad, dualproj"):
        make(toy, "sum")
    with pytest.raises(InputError, match="parameters: there are none"):
        GradientAggregation(weights=WEIGHTS, auxiliary=["left"], parameters=[])
    with pytest.raises(InputError, match="auxiliary: names 'side', which has no weight"):
        GradientAggregation(weights=WEIGHTS, auxiliary=["side"], parameters=[toy.shared])
    weighting = GradientAggregation(weights=WEIGHTS, auxiliary=["left", "right"], parameters=[toy.main])
    with pytest.raises(InputError, match="parameters: none is reached by two tasks"):
        weighting(toy.losses(), 0)
    with pytest.raises(InputError, match="auxiliary: names all losses"):
        weighting({"left": toy.losses()["left"]}, 0)
    with pytest.raises(InputError, match="none for loss 'x'"):
        weighting({**toy.losses(), "x": torch.tensor(1.0)}, 0)
    monkeypatch.setattr(aggregation.CAGradWeighting, "_REQUIRED_DEPS", ["a_package_that_is_missing"])
    with pytest.raises(InputError, match=r"cagrad: needs packages that are not installed; .*torchjd\[cagrad\]"):
        make(toy, "cagrad")
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(InputError, match=r"torchjd: is not installed; .*pip install \"mtmed\[balancing\]\""):
        make(toy)

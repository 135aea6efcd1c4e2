"""Feature-wise linear modulation: starts as the identity, standardises, knows what is unknown."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtmed.networks import FiLM, SmallUNet
from mtmed.networks.film import split_condition

PLAIN: dict[str, Any] = {"features": ["slice_position", "pixel_width"], "mean": [0.5, 1.6], "deviation": [0.3, 0.1]}


def moved(module: nn.Module, seed: int = 0) -> Any:
    """With random weights everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def test_a_new_module_changes_nothing_at_all() -> None:
    film = FiLM(channels=5, **PLAIN)
    feature_map = torch.randn(3, 5, 6, 7)
    for condition in (None, torch.tensor([[1e4, -3.0]] * 3), torch.full((3, 2), torch.nan)):
        assert torch.equal(film(feature_map, condition), feature_map)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(film(feature_map.bfloat16(), None), feature_map.bfloat16())


def three_layers(network: nn.Module, values: np.ndarray) -> np.ndarray:
    """Of float64 NumPy arrays."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 3
    for number, layer in enumerate(layers):
        values = values @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        values = np.maximum(values, 0) if number < 2 else values
    return values


@pytest.mark.parametrize("size", [(6, 7), (3, 4, 5)])
def test_it_is_the_formula_on_standardised_numbers(size: tuple[int, ...]) -> None:
    film: FiLM = moved(FiLM(channels=5, hidden=8, **PLAIN))
    feature_map, condition = torch.randn(3, 5, *size), torch.tensor([[0.1, 1.5], [0.9, 1.8], [np.nan, 1.6]])
    known = (condition.double().numpy() - np.array([0.5, 1.6])) / np.array([0.3, 0.1])
    known[2, 0] = 0
    scale, shift = (three_layers(part, known).reshape(3, 5, *[1] * len(size)) for part in (film.scale, film.shift))
    expected = feature_map.double().numpy() * (1 + scale) + shift
    np.testing.assert_allclose(film(feature_map, condition).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_number_that_never_varied_is_never_looked_at() -> None:
    film = moved(FiLM(channels=4, features=["a", "b"], mean=[266.0, 1.0], deviation=[0.0, 2.0]))
    feature_map = torch.randn(1, 4, 3, 3)
    results = [film(feature_map, torch.tensor([[rows, 2.0]])) for rows in (266.0, 360.0, float("nan"))]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], film(feature_map, torch.tensor([[266.0, 3.0]])))


def test_a_number_far_off_counts_as_five_deviations() -> None:
    film = moved(FiLM(channels=4, **PLAIN))
    feature_map = torch.randn(1, 4, 3, 3)
    furthest = film(feature_map, torch.tensor([[0.5 + 5 * 0.3, 1.6 - 5 * 0.1]]))
    torch.testing.assert_close(film(feature_map, torch.tensor([[1e6, -1e6]])), furthest)


def test_an_unknown_number_is_taken_for_the_mean() -> None:
    film = moved(FiLM(channels=4, **PLAIN))
    feature_map, mean = torch.randn(2, 4, 3, 3), torch.tensor([[0.5, 1.6]] * 2)
    expected = film(feature_map, mean)
    assert torch.equal(film(feature_map, None), expected)
    assert torch.equal(film(feature_map, torch.full((2, 2), torch.nan)), expected)
    assert not torch.allclose(film(feature_map, mean + 0.1), expected)


def test_each_image_is_changed_by_its_own_numbers_only() -> None:
    film = moved(FiLM(channels=4, **PLAIN))
    feature_map, condition = torch.randn(3, 4, 5, 5), torch.rand(3, 2)
    other = condition.clone()
    other[1] += 1
    changed = (film(feature_map, condition) != film(feature_map, other)).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_gradients_reach_both_networks_and_the_feature_map() -> None:
    film = FiLM(channels=4, **PLAIN)
    feature_map, condition = torch.randn(3, 4, 5, 5, requires_grad=True), torch.rand(3, 2)
    film(feature_map, condition).square().sum().backward()
    assert feature_map.grad is not None
    last = [film.scale[-1], film.shift[-1]]
    assert all(layer.weight.grad.abs().sum() > 0 and layer.bias.grad.abs().sum() > 0 for layer in last)
    film = moved(FiLM(channels=4, **PLAIN))
    film(feature_map, torch.tensor([[torch.nan, 1.0]] * 3)).square().sum().backward()
    for name, parameter in film.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_numbers_it_was_trained_with_travel_with_its_weights() -> None:
    film, other = moved(FiLM(channels=4, **PLAIN)), FiLM(channels=4, **{**PLAIN, "mean": [0, 0]})
    other.load_state_dict(film.state_dict())
    feature_map, condition = torch.randn(2, 4, 3, 3), torch.rand(2, 2)
    assert torch.equal(film(feature_map, condition), other(feature_map, condition))
    assert torch.equal(torch.jit.script(film)(feature_map, condition), film(feature_map, condition))


def planes(condition: Tensor, size: tuple[int, int]) -> Tensor:
    return condition[:, :, None, None].expand(-1, -1, *size)


@pytest.mark.parametrize("size", [(1, 1), (6, 4), (7, 9)])
def test_image_and_planes_come_apart_as_they_were_put_together(size: tuple[int, int]) -> None:
    image, condition = torch.rand(3, 2, *size), torch.tensor([[1.0, torch.nan, 3.0]] * 3)
    apart = split_condition(torch.cat([image, planes(condition, size)], 1), 2, 3)
    assert torch.equal(apart[0], image)
    torch.testing.assert_close(apart[1], condition, equal_nan=True, rtol=0, atol=0)
    alone, nothing = split_condition(image, 2, 0)
    assert alone is image
    assert nothing is None


def test_zeros_around_the_planes_do_not_matter() -> None:
    """Inferers pad images that are smaller than their windows."""
    padded = nn.functional.pad(torch.full((1, 2, 5, 4), 3.0), (1, 2, 1, 1))
    assert split_condition(padded, 1, 1)[1].item() == 3  # type: ignore[union-attr]


def test_missing_planes_are_named() -> None:
    network = SmallUNet(in_channels=1, out_channels=2, base_channels=4, film=PLAIN)
    with pytest.raises(ValueError, match="has 1 channels; 1 and 2 of the condition"):
        network(torch.rand(1, 1, 16, 16))
    with pytest.raises(ValueError, match="has 1 numbers, the network 2"):
        network.encode(torch.rand(1, 1, 16, 16), torch.rand(1, 1))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"features": []}, "name at least one"),
        ({"features": ["a", "a"]}, "each once"),
        ({"mean": [0.0]}, "mean has 1 numbers for 2 features"),
        ({"deviation": [1.0, 1.0, 1.0]}, "deviation has 3 numbers"),
        ({"deviation": [1.0, -0.1]}, "0 or more"),
        ({"hidden": 0}, "above 0"),
    ],
)
def test_unusable_arguments_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        FiLM(channels=4, **{**PLAIN, **options})


def test_a_copy_is_independent() -> None:
    film = FiLM(channels=4, **PLAIN)
    twin = moved(copy.deepcopy(film))
    assert not torch.equal(twin(torch.ones(1, 4, 2, 2), None), film(torch.ones(1, 4, 2, 2), None))

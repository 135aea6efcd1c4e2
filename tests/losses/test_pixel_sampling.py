"""Weight map, sampling and downsampling of pixels against formulas, frequencies and torch's interpolation."""

import itertools

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import PixelSample, boundary_weight, nearest_downsample, sample_pixels, take_pixels
from mtmed.randomness import torch_generator


def generators(count: int, step: int = 0) -> list[torch.Generator]:
    return [torch_generator(7, step, position, "pixels") for position in range(count)]


def cohort() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (3, 1, 6, 5, 4), generator=generator).to(torch.uint8)
    label[1][label[1] == 2] = 0
    weight = torch.rand(label.shape, generator=generator)
    weight[weight < 0.2] = 0
    return weight, label


def test_weight_is_its_formula() -> None:
    distance = torch.linspace(0, 40, 81, dtype=torch.float64)
    expected = 0.5 * np.sqrt(distance.numpy()) * np.exp(-distance.numpy() / 8) + 0.05
    np.testing.assert_allclose(boundary_weight(distance).numpy(), expected, rtol=1e-12)
    assert boundary_weight(distance).argmax() == 8  # at mu / 2 = 4 voxels
    assert boundary_weight(distance.half()).dtype == torch.float32
    assert boundary_weight(torch.tensor(-0.1)).item() == pytest.approx(0.05)


def test_draws_the_budget_of_each_class_without_repetition() -> None:
    weight, label = cohort()
    sample = sample_pixels(weight, label, per_class=10, generators=generators(3))
    pairs = list(zip(sample.batch.tolist(), sample.voxel.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for image, value in itertools.product(range(3), range(4)):
        available = ((label[image] == value) & (weight[image] > 0)).sum().item()
        drawn = ((sample.batch == image) & (sample.label == value)).sum().item()
        assert drawn == min(10, available)


def test_never_draws_another_class_or_weight_zero() -> None:
    weight, label = cohort()
    sample = sample_pixels(weight, label, per_class=1000, generators=generators(3))
    assert torch.equal(label.flatten(1)[sample.batch, sample.voxel].long(), sample.label)
    assert (weight.flatten(1)[sample.batch, sample.voxel] > 0).all()
    assert len(sample.voxel) == (weight > 0).sum()


def test_background_can_be_left_out() -> None:
    weight, label = cohort()
    sample = sample_pixels(weight, label, per_class=5, generators=generators(3), background=False)
    assert set(sample.label.tolist()) == {1, 2, 3}
    empty = sample_pixels(weight, torch.zeros_like(label), per_class=5, generators=generators(3), background=False)
    assert [len(part) for part in empty] == [0, 0, 0]


def test_frequencies_follow_the_weights() -> None:
    weights = torch.tensor([0.0, 1, 2, 3, 4])
    label = torch.ones(1, 1, 5, dtype=torch.int64)
    draws = 4000
    first = np.zeros(5)
    pairs = np.zeros((5, 5))
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        sample = sample_pixels(weights.view(1, 1, 5), label, per_class=2, generators=[generator])
        first[sample.voxel[0]] += 1
        pairs[sample.voxel[0], sample.voxel[1]] += 1
    share = weights.numpy() / 10
    np.testing.assert_allclose(first / draws, share, atol=4 * np.sqrt(0.25 / draws))
    # the second is drawn in proportion to what is left
    expected = np.outer(share, share) / (1 - share)[:, None]
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(pairs / draws, expected, atol=4 * np.sqrt(0.15 / draws))


def test_weights_that_are_not_a_number_are_never_drawn() -> None:
    weight = torch.tensor([torch.nan, 1.0, torch.inf, 1e-30, 0.0]).view(1, 1, 5)
    for dtype in (torch.uint8, torch.int16, torch.int64):
        label = torch.tensor([300 if dtype != torch.uint8 else 3] * 5).to(dtype).view(1, 1, 5)
        sample = sample_pixels(weight, label, per_class=9, generators=generators(1))
        assert sample.voxel.tolist() == [2, 1, 3]
        assert sample.label.unique().item() == label[0, 0, 0]


def test_gradient_of_a_voxel_taken_twice_is_the_sum() -> None:
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    batch, voxel = torch.tensor([1, 0, 1]), torch.tensor([7, 2, 7])
    weights = torch.randn(3, 3, dtype=torch.float64)
    sample = PixelSample(batch, voxel, torch.ones(3, dtype=torch.int64))
    (gradient,) = torch.autograd.grad((take_pixels(features, sample) * weights).sum(), features)
    expected = torch.zeros(2, 3, 20, dtype=torch.float64)
    for row, (image, place) in enumerate(zip(batch.tolist(), voxel.tolist(), strict=True)):
        expected[image, :, place] += weights[row]
    torch.testing.assert_close(gradient.flatten(2), expected)


def test_an_image_depends_on_its_own_generator_alone() -> None:
    weight, label = cohort()
    together = sample_pixels(weight, label, per_class=4, generators=generators(3))
    alone = sample_pixels(weight[2:], label[2:], per_class=4, generators=generators(3)[2:])
    assert torch.equal(together.voxel[together.batch == 2], alone.voxel)
    again = sample_pixels(weight, label, per_class=4, generators=generators(3))
    assert torch.equal(again.voxel, together.voxel)
    later = sample_pixels(weight, label, per_class=4, generators=generators(3, step=1))
    assert not torch.equal(later.voxel, together.voxel)


@pytest.mark.parametrize(("full", "size"), [((12, 8), (4, 4)), ((12, 9, 8), (4, 3, 2)), ((6, 6, 6), (6, 6, 6))])
def test_downsampling_picks_the_centre_as_nearest_exact_does(full: tuple[int, ...], size: tuple[int, ...]) -> None:
    values = torch.arange(2 * int(np.prod(full)), dtype=torch.float32).view(2, 1, *full)
    expected = torch.nn.functional.interpolate(values, size=size, mode="nearest-exact")
    assert torch.equal(nearest_downsample(values, size), expected)
    assert torch.equal(nearest_downsample(values.long(), size), expected.long())


def test_taken_pixels_are_those_of_the_feature_map() -> None:
    weight, label = cohort()
    features = torch.randn(3, 7, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    # the middle image has no voxel of class 2
    sample = sample_pixels(weight * (label == 2), label, per_class=5, generators=generators(3))
    assert set(sample.batch.tolist()) == {0, 2}
    vectors = take_pixels(features, sample)
    assert torch.equal(vectors, features.flatten(2)[sample.batch, :, sample.voxel])
    (gradient,) = torch.autograd.grad(vectors.sum(), features)
    assert gradient.sum().item() == vectors.numel()


def test_unusable_arguments_are_named() -> None:
    weight, label = cohort()
    with pytest.raises(InputError, match="per_class"):
        sample_pixels(weight, label, per_class=0, generators=generators(3))
    with pytest.raises(InputError, match="one generator per image"):
        sample_pixels(weight, label, per_class=1, generators=generators(2))
    with pytest.raises(InputError, match="shape"):
        sample_pixels(weight[..., :2], label, per_class=1, generators=generators(3))
    with pytest.raises(InputError, match="mu"):
        boundary_weight(weight, mu=0)
    with pytest.raises(InputError, match="fraction"):
        nearest_downsample(label, (4, 5, 4))
    with pytest.raises(InputError, match="fraction"):
        nearest_downsample(label, (3, 5))

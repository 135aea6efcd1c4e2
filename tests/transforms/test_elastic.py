"""The B-spline field against SciPy's splines, its calibration and its invariances."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

from mtmed.transforms import Elastic, SpatialAugmentation
from mtmed.transforms.elastic import add_displacement, bspline_matrix
from mtmed.transforms.spatial_operation import ControlGrid


def field_of(control: ControlGrid, shape: tuple[int, ...]) -> np.ndarray:
    grid = torch.zeros(len(shape), *shape)
    add_displacement(grid, control, np.eye(len(shape)))
    return grid.numpy()


@pytest.mark.parametrize(("size", "spacing"), [(20, 4.0), (17, 3.3), (5, 9.0), (1, 2.0)])
def test_weights_equal_scipy_cubic_bsplines(size, spacing):
    matrix = bspline_matrix(size, spacing)
    points = matrix.shape[1]
    spline = BSpline(spacing * np.arange(-3, points + 1), np.eye(points), 3)
    np.testing.assert_allclose(matrix, spline(np.arange(size)), atol=1e-12)
    np.testing.assert_allclose(matrix.sum(1), 1)


@pytest.mark.parametrize("shape", [(9, 13, 7), (12, 10)])
def test_field_equals_the_tensor_product_in_float64(shape):
    drawn = Elastic(probability=1, control_spacing=3.5).draw(np.random.default_rng(0), shape)
    matrices = [bspline_matrix(size, 3.5) for size in shape]
    letters = "abc"[: len(shape)], "xyz"[: len(shape)]
    formula = ",".join(f"{a}{x}" for a, x in zip(*letters, strict=True)) + f",{letters[1]}k->k{letters[0]}"
    expected = np.einsum(formula, *matrices, drawn.coefficients)
    np.testing.assert_allclose(field_of(drawn, shape), expected, atol=1e-5)


def test_linear_coefficients_give_a_linear_field():
    shape, spacing = (15, 11), 4.0
    points = [bspline_matrix(size, spacing).shape[1] for size in shape]
    place = np.stack(np.meshgrid(*[(np.arange(n) - 1) * spacing for n in points], indexing="ij"), -1)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    np.testing.assert_allclose(field_of(ControlGrid(place, (spacing, spacing)), shape), voxels, atol=1e-4)


def test_zero_displacement_is_identity():
    image = torch.rand(1, 1, 11, 9, 10)
    label = torch.randint(0, 5, (1, 1, 11, 9, 10))
    spatial = SpatialAugmentation([Elastic(probability=1, magnitude=(0, 0))])
    warped = spatial({"image": image, "label": label}, seed=0, step=0, positions=[0])
    torch.testing.assert_close(warped["image"], image, atol=2e-5, rtol=0)
    assert torch.equal(warped["label"], label)


def test_default_strength_is_that_of_monai_sigma_5_to_8_magnitude_50_to_150():
    """MONAI smooths uniform noise (-1, 1) with a Gaussian and multiplies; checked in the root mean square."""
    shape = (36, 36, 36)
    operation = Elastic(probability=1)
    ours = [field_of(operation.draw(np.random.default_rng(seed), shape), shape).std() for seed in range(40)]
    monai = []
    for seed in range(24):
        generator = np.random.default_rng(seed)
        noise = generator.uniform(-1, 1, shape)
        sigma, magnitude = generator.uniform(5, 8), generator.uniform(50, 150)
        monai.append(magnitude * gaussian_filter(noise, sigma, mode="wrap", truncate=3).std())
    assert np.mean(ours) == pytest.approx(np.mean(monai), rel=0.25)
    assert np.sqrt(np.mean(np.square(ours))) == pytest.approx(0.576, rel=0.15)


def test_default_field_does_not_fold():
    shape = (30, 30, 30)
    drawn = Elastic(probability=1, magnitude=(4.6, 4.6)).draw(np.random.default_rng(1), shape)
    gradient = np.stack([np.stack(np.gradient(part)) for part in field_of(drawn, shape)])
    jacobian = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0


def test_displacement_stays_below_the_drawn_magnitude():
    for seed in range(10):
        drawn = Elastic(probability=1, control_spacing=4, magnitude=(2, 3)).draw(np.random.default_rng(seed), (16, 20))
        assert np.abs(field_of(drawn, (16, 20))).max() <= 3
        assert np.abs(drawn.coefficients).max() > 1

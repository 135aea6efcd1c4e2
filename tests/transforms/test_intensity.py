"""Intensity operations against MONAI's deterministic counterparts and SciPy."""

import monai.transforms
import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from mtmed.errors import InputError
from mtmed.transforms import Gamma, GaussianNoise, GaussianSmooth, IntensityScale, IntensityShift
from mtmed.transforms.intensity import DrawnChange, smoothing_matrix

RUN = {"seed": 5, "step": 2}
ALL = [
    IntensityShift(probability=0.5),
    IntensityScale(probability=0.5),
    Gamma(probability=0.5),
    GaussianSmooth(probability=0.5),
    GaussianNoise(probability=0.5),
]


def changed(operation, sample, value):
    return operation.apply_to(sample[None].clone(), [DrawnChange(value, (0, 0, 0, "x"))])[0]


@pytest.mark.parametrize("shape", [(2, 14, 9, 11), (1, 17, 12)])
@pytest.mark.parametrize(
    ("operation", "stock", "values"),
    [
        (IntensityShift(probability=1), lambda v: monai.transforms.ShiftIntensity(v), (-0.3, 0.2)),
        (IntensityScale(probability=1), lambda v: monai.transforms.ScaleIntensity(None, None, v - 1), (0.7, 1.2)),
        (Gamma(probability=1), lambda v: monai.transforms.AdjustContrast(v), (0.5, 1.7)),
        (
            GaussianSmooth(probability=1, padding_mode="zeros"),
            lambda v: monai.transforms.GaussianSmooth(v, approx="erf"),
            (0.3, 1.5, 4.0),
        ),
    ],
)
def test_equals_monai_with_the_same_parameter(shape, operation, stock, values):
    # not within [0, 1]: nothing may be clipped
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.7 + 0.4
    for value in values:
        expected = torch.as_tensor(stock(value)(sample.clone())).as_subclass(torch.Tensor)
        torch.testing.assert_close(changed(operation, sample, value), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.4, 1.3, 3.0])
def test_smoothing_with_border_equals_scipy_nearest(sigma):
    sample = torch.rand(1, 13, 8, 10)
    kernel = smoothing_matrix(101, sigma, "border")[50].numpy()
    expected = sample[0].double().numpy()
    for axis in range(3):
        expected = convolve1d(expected, kernel, axis=axis, mode="nearest")
    np.testing.assert_allclose(changed(GaussianSmooth(probability=1), sample, sigma)[0].numpy(), expected, atol=1e-5)


def test_smoothing_leaves_a_constant_image_alone_at_the_border():
    sample = torch.full((1, 9, 9, 9), 0.7)
    torch.testing.assert_close(changed(GaussianSmooth(probability=1), sample, 2.0), sample, atol=1e-6, rtol=0)
    assert changed(GaussianSmooth(probability=1, padding_mode="zeros"), sample, 2.0)[0, 0, 0, 0] < 0.2


def test_gamma_keeps_the_range_and_order():
    sample = torch.randn(1, 8, 9)
    bent = changed(Gamma(probability=1), sample, 1.4)
    assert bent.min() == pytest.approx(float(sample.min()), abs=1e-5)
    assert bent.max() == pytest.approx(float(sample.max()), abs=1e-5)
    assert torch.equal(bent.flatten().argsort(), sample.flatten().argsort())


def test_gamma_of_a_constant_image_is_that_image():
    sample = torch.full((1, 6, 6), 0.3)
    torch.testing.assert_close(changed(Gamma(probability=1), sample, 0.7), sample)


def test_noise_has_the_drawn_standard_deviation_and_is_white():
    noise = changed(GaussianNoise(probability=1), torch.zeros(1, 40, 40, 40), 0.25)[0]
    assert noise.std() == pytest.approx(0.25, rel=0.02)
    assert abs(noise.mean()) < 0.005
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.002


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: type(operation).__name__)
@pytest.mark.parametrize("shape", [(7, 9, 8), (10, 12)])
def test_batched_equals_per_element_and_unfired_samples_stay(operation, shape):
    image = torch.rand(8, 2, *shape)
    changes = operation.parameters_for(**RUN, positions=range(8))
    together = operation(image, **RUN, positions=torch.arange(8))
    for index in range(8):
        alone = operation(image[index : index + 1], **RUN, positions=[index])
        assert torch.equal(alone[0], together[index])
        assert torch.equal(together[index], image[index]) == (changes[index] is None)
    assert None in changes
    assert any(change is not None for change in changes)


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: type(operation).__name__)
def test_drawn_values_stay_in_range_and_differ_between_streams(operation):
    first = [c.value for c in operation.parameters_for(**RUN, positions=range(100)) if c]
    other = [c.value for c in operation.parameters_for(**RUN, positions=range(100), stream="other") if c]
    low, high = operation.drawn_range
    assert low <= min(first) < max(first) <= high
    assert 30 < len(first) < 70
    assert not set(first) & set(other)


def test_apply_to_works_in_place_and_calling_does_not():
    image = torch.zeros(1, 1, 4, 4)
    operation = IntensityShift(probability=1, offset_range=(0.5, 0.5))
    assert operation(image, **RUN, positions=[0]).sum() == 8
    assert image.sum() == 0
    changes = operation.parameters_for(**RUN, positions=[0])
    assert operation.apply_to(image, changes) is image
    assert image.sum() == 8


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: IntensityShift(probability=-0.1), "IntensityShift.probability"),
        (lambda: Gamma(probability=1, gamma_range=(0, 1)), "Gamma.gamma_range"),
        (lambda: GaussianSmooth(probability=1, sigma_range=(2, 1)), "GaussianSmooth.sigma_range"),
        (lambda: GaussianSmooth(probability=1, padding_mode="wrap"), "GaussianSmooth.padding_mode"),
        (lambda: GaussianNoise(probability=1, std_range=(-1, 1)), "GaussianNoise.std_range"),
        (lambda: IntensityScale(probability=1, factor_range=(1, 2, 3)), "IntensityScale.factor_range"),
    ],
)
def test_unusable_arguments_are_named(make, culprit):
    with pytest.raises(InputError, match=f"^{culprit}"):
        make()


def test_noise_leaves_missing_modalities_empty_if_asked_to():
    image = torch.ones(2, 3, 4, 4, 4)
    image[:, 1] = 0
    noisy = GaussianNoise(probability=1.0, std_range=[0.1, 0.2], skip_empty=True)(image, positions=[0, 1], **RUN)
    plain = GaussianNoise(probability=1.0, std_range=[0.1, 0.2])(image, positions=[0, 1], **RUN)
    assert (noisy[:, 1] == 0).all()
    assert torch.equal(noisy[:, [0, 2]], plain[:, [0, 2]])
    assert (plain[:, 1] != 0).any()

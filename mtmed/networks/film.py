"""Feature-wise linear modulation: what is known about an image scales and shifts a feature map."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FiLM", "make_film", "split_condition"]


def _three_layers(features: int, hidden: int, channels: int) -> nn.Sequential:
    last = nn.Linear(hidden, channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)


class FiLM(nn.Module):
    r"""Scale and shift each channel of a feature map by what two small networks make of a vector.

    .. math:: y = x (1 + \gamma(z)) + \beta(z), \quad z_k = (c_k - \mu_k) / \sigma_k

    with c the vector as it is (mm, pixels, numbers). An unknown number is NaN and becomes :math:`z_k = 0`, the mean; so
    does one that was the same for all training images (deviation 0), of which the networks have learnt nothing. Beyond
    5 deviations z is cut off.
    The last layers start as zeros, so that a new module changes nothing.

    Source: Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer"; Chia, Gu, Lui 2022, Section
    4.3, for two networks of three fully connected layers, one for the scales and one for the shifts. Our reading:
    :math:`1 + \gamma` in place of :math:`\gamma`, ReLU between the layers, standardised numbers.

    Args:
        features: names of the numbers, in the order of the vector.
        channels: channels of the feature map.
        mean: mean of each number over the training images.
        deviation: standard deviation of each number; 0 for one that does not vary, which is then never looked at.
        hidden: width of the two inner layers.

    Attributes:
        features: names of the numbers.

    Raises:
        ValueError: if the names are none or doubled, the lengths differ, a deviation is negative, or a width is not
            above 0.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        channels: int,
        mean: Sequence[float],
        deviation: Sequence[float],
        hidden: int = 64,
    ) -> None:
        super().__init__()
        if not features or len(set(features)) < len(features):
            raise ValueError(f"features is {list(features)}; name at least one, each once.")
        for name, numbers in (("mean", mean), ("deviation", deviation)):
            if len(numbers) != len(features):
                raise ValueError(f"{name} has {len(numbers)} numbers for {len(features)} features; give one for each.")
        if min(deviation) < 0 or hidden < 1:
            raise ValueError(f"deviation is {list(deviation)} and hidden is {hidden}; give 0 or more, and above 0.")
        self.features = tuple(features)
        # with the weights in files, because the two networks were trained with these numbers
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))
        self.scale = _three_layers(len(features), hidden, channels)
        self.shift = _three_layers(len(features), hidden, channels)

    def forward(self, feature_map: Tensor, condition: Tensor | None) -> Tensor:
        """The modulated feature map.

        Args:
            feature_map: B C H W [D].
            condition: B F, raw numbers, NaN where one is unknown; None if all are.

        Raises:
            ValueError: if the vector has another length than `features`.
        """
        if condition is None:
            known = self.mean.new_zeros(feature_map.shape[0], self.mean.shape[0])
        else:
            if condition.shape[1] != self.mean.shape[0]:
                raise ValueError(f"The condition has {condition.shape[1]} numbers, the network {self.mean.shape[0]}.")
            # without a deviation this is infinite or NaN
            standardised = (condition.float() - self.mean) / self.deviation
            known = torch.where(self.deviation > 0, standardised.nan_to_num(nan=0.0), 0.0).clamp(-5.0, 5.0)
        shape = [feature_map.shape[0], feature_map.shape[1]] + [1] * (feature_map.dim() - 2)
        scale, shift = self.scale(known).reshape(shape), self.shift(known).reshape(shape)
        modulated: Tensor = feature_map * (1 + scale) + shift
        return modulated


def make_film(film: Mapping[str, Any] | None, channels: int) -> FiLM | None:
    """`FiLM` from the plain values of a network's definition, None from None.

    Args:
        film: ``{"features": [...], "mean": [...], "deviation": [...], "hidden": 64}``, or None.
        channels: channels of the feature map.
    """
    return None if film is None else FiLM(channels=channels, **film)


def split_condition(image: Tensor, channels: int, features: int) -> tuple[Tensor, Tensor | None]:
    """Image and condition of what a whole volume holds together: constant planes after the image's channels.

    Args:
        image: B C+F H W.
        channels: channels C of the image itself.
        features: number F of planes; 0 for a network without a condition.

    Returns:
        The image, B C H W, and the planes at the centre pixel, B F; the image as it is and None if F is 0.

    Raises:
        ValueError: if the planes are not there.
    """
    if features == 0:
        return image, None
    if image.shape[1] != channels + features:
        raise ValueError(f"The image has {image.shape[1]} channels; {channels} and {features} of the condition fit.")
    return image[:, :channels], image[:, channels:, image.shape[2] // 2, image.shape[3] // 2]

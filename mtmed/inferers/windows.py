"""Whole volumes by a network of 3D patches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer

from mtmed.errors import InputError
from mtmed.inferers.image_name import image_name

__all__ = ["WindowInferer"]


class WindowInferer(Inferer):
    """Logits of a volume, blended from windows by MONAI's ``SlidingWindowInferer`` with Gaussian importance.

    For what comes after it is as `SliceInferer`: logits in float32, whatever the network computes in, summed on the
    image's device. The images of a batch are passed over one by one, so that memory holds the logits of one volume and
    `batch_size` windows at a time.

    Args:
        patch_size: size of a window in voxels; that of the training.
        overlap: share by which neighbouring windows overlap, in [0, 1).
        batch_size: windows per call of the network.
        progress: show a progress bar over the windows.

    Attributes:
        feature_planes: 0; windows are shown no metadata.

    Raises:
        ValueError: a size below 1, an overlap outside [0, 1), or a batch size below 1.
    """

    feature_planes = 0

    def __init__(
        self, *, patch_size: Sequence[int], overlap: float = 0.5, batch_size: int = 2, progress: bool = False
    ) -> None:
        super().__init__()
        if len(patch_size) != 3 or min(patch_size) < 1:
            raise ValueError(f"patch_size is {patch_size}; give three sides in voxels, from 1.")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap is {overlap}; give a share in [0, 1).")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give a number of windows from 1.")
        self.patch_size = tuple(int(side) for side in patch_size)
        self.windows = SlidingWindowInferer(
            self.patch_size, sw_batch_size=batch_size, overlap=overlap, mode="gaussian", progress=progress
        )

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the logits.

        Args:
            inputs: image, B C D H W.
            network: gives logits, N K d h w, of windows, N C d h w.
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            Logits, B K D H W float32, a `MetaTensor` where the image is one.

        Raises:
            InputError: if the network gives logits that are not finite.
            ValueError: if the image is no volume.
        """
        if inputs.dim() != 5:
            raise ValueError(f"Images have the shape {tuple(inputs.shape)}; give B C D H W.")
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs

        def predictor(windows: torch.Tensor) -> torch.Tensor:
            return network(windows, *args, **kwargs).float()

        with torch.no_grad():
            logits = torch.cat([self.windows(volume[None], predictor) for volume in plain])
        if not bool(torch.isfinite(logits).all()):
            problem = "the network's output is not finite"
            remedy = "look for NaN or infinite voxels in the image and in the weights"
            raise InputError(image_name(inputs), problem, remedy)
        if isinstance(inputs, MetaTensor):
            return MetaTensor(logits).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-any-return]
        return logits

"""Reconstruction: give back the undistorted patch."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Reconstruction"]


class Reconstruction(Task):
    r"""Squared error between the reconstruction of each view and its undistorted patch.

    .. math:: L_\text{recon} = \frac{1}{|V|} \sum_{v \in V} \lVert P_v - \tilde P_v \rVert^2

    Source: MixCL, Eq. 3. Our reading: the target is the patch after the shared geometry and before the intensity
    changes of the view; both views of the first patch and the one of the second are reconstructed. ``error="mean"``
    (default) is the mean over voxels; ``"sum"`` is the printed norm, a sum over the voxels of a patch, which with the
    paper's factor of 0.01 and 96³ voxels outweighs the other losses by far.

    Args:
        views: names of the views to reconstruct.
        error: ``"mean"`` or ``"sum"`` over the voxels of a patch; always the mean over patches.
    """

    def __init__(self, *, views: Sequence[str], error: Literal["mean", "sum"] = "mean") -> None:
        super().__init__(views=tuple(views), needs="decoded")
        if error not in ("mean", "sum"):
            raise ValueError(f'error is {error!r}; allowed are "mean" and "sum".')
        self.error = error

    def setup(self, network: Any) -> None:
        """Build the 1x1 convolution from decoded features to the image."""
        convolution = nn.Conv3d if len(network.image_size) == 3 else nn.Conv2d
        self.head = convolution(network.decoder_channels, network.in_channels, kernel_size=1)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``reconstruction``; the reconstruction of each view as a picture."""
        errors, outputs = [], {}
        for view in self.views:
            decoded = features[view].decoded
            assert decoded is not None
            restored = self.head(decoded).float()
            squared = (restored - views[view]["clean"]).square()
            errors.append(squared.mean() if self.error == "mean" else squared.flatten(1).sum(1).mean())
            if context.pictures:
                outputs[f"reconstruction/{view}"] = restored.detach()
        return TaskOutput({"reconstruction": torch.stack(errors).mean()}, outputs)

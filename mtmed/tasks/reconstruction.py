"""Reconstruction: give back the undistorted patch."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from mtmed.networks.centre_padding import crop_centre
from mtmed.networks.plain_decoder import PlainDecoder
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Reconstruction"]


class Reconstruction(Task):
    r"""Squared error between the reconstruction of each view and its undistorted patch.

    .. math:: L_\text{recon} = \frac{1}{|V|} \sum_{v \in V} \lVert P_v - \tilde P_v \rVert^2

    Source: MixCL, Eq. 3. Our reading: the target is the patch after the shared geometry and before the intensity
    changes of the view; both views of the first patch and the one of the second are reconstructed. ``error="mean"``
    (default) is the mean over voxels; ``"sum"`` is the printed norm, a sum over the voxels of a patch, which with the
    paper's factor of 0.01 and 96³ voxels outweighs the other losses by far.

    With ``branch="coarsest"`` the task has a decoder of its own (`PlainDecoder`), which reads the coarsest feature map
    and has no skips, so that the encoder must put all of the image into it and the network's decoder is left to
    segmentation. Source: Dhere, Sivaswamy 2021 (arXiv 2101.05456), Section 2.2.

    Args:
        views: names of the views to reconstruct.
        error: ``"mean"`` or ``"sum"`` over the voxels of a patch; always the mean over patches.
        branch: reconstruct from the network's ``"decoded"`` map or from the ``"coarsest"`` feature map.
    """

    def __init__(
        self,
        *,
        views: Sequence[str],
        error: Literal["mean", "sum"] = "mean",
        branch: Literal["decoded", "coarsest"] = "decoded",
    ) -> None:
        if error not in ("mean", "sum"):
            raise ValueError(f'error is {error!r}; allowed are "mean" and "sum".')
        if branch not in ("decoded", "coarsest"):
            raise ValueError(f'branch is {branch!r}; allowed are "decoded" and "coarsest".')
        if branch == "decoded":
            super().__init__(views=tuple(views), needs="decoded")
        else:
            super().__init__(views=tuple(views), needs="encoded", levels=(-1,))
        self.error = error
        self.branch = branch

    def setup(self, network: Any) -> None:
        """Build the 1x1 convolution from decoded features to the image, or the decoder of the coarsest map."""
        if self.branch == "coarsest":
            self.head: nn.Module = PlainDecoder(
                in_channels=network.level_channels[-1],
                stride=network.level_strides[-1],
                out_channels=network.in_channels,
                spatial_dims=network.spatial_dims,
            )
            return
        convolution = nn.Conv3d if network.spatial_dims == 3 else nn.Conv2d
        self.head = convolution(network.decoder_channels, network.in_channels, kernel_size=1)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``reconstruction``; the reconstruction of each view as a picture."""
        errors, outputs = [], {}
        for view in self.views:
            clean = views[view]["clean"]
            read = features[view].encoded[-1] if self.branch == "coarsest" else features[view].decoded
            assert read is not None
            # a network that pads images has a coarsest map of the padded size
            restored = crop_centre(self.head(read), list(clean.shape[2:])).float()
            squared = (restored - clean).square()
            errors.append(squared.mean() if self.error == "mean" else squared.flatten(1).sum(1).mean())
            if context.pictures:
                outputs[f"reconstruction/{view}"] = restored.detach()
        return TaskOutput({"reconstruction": torch.stack(errors).mean()}, outputs)

"""Whole volumes by a network of slices."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from tqdm import tqdm

from mtmed.errors import InputError
from mtmed.inferers.image_name import image_name

__all__ = ["SliceInferer"]


class SliceInferer(Inferer):
    r"""Logits of a volume, slice by slice along its first axis.

    With image v of C channels and D slices, planes p of metadata and offsets o, the network f sees of slice d

    .. math:: x_d = [v_{c(d + o_1)}, \dots, v_{c(d + o_n)}, p_d], \quad c(i) = \min(\max(i, 0), D - 1),

    all channels of the first offset, then all of the second, ...; beyond the ends the edge slice is repeated. The
    planes are those of slice d. A volume of one slice is one too.

    Args:
        slice_offsets: offsets of the slices that are channels of the network: ``[0]`` the slice itself, ``[0, 0, 0]``
            the same three times, ``[-2, 0, 2]`` with its neighbours (2.5D).
        feature_planes: number of last channels that hold a value of metadata each (see
            `mtmed.transforms.AppendSliceFeaturesd`).
        batch_size: slices per call of the network.
        progress: show a progress bar over the slices.

    Raises:
        ValueError: no offset, a negative number of planes, or a batch size below 1.
    """

    def __init__(
        self,
        *,
        slice_offsets: Sequence[int] = (0,),
        feature_planes: int = 0,
        batch_size: int = 32,
        progress: bool = False,
    ) -> None:
        super().__init__()
        if not slice_offsets:
            raise ValueError("slice_offsets is empty; give at least one, [0] for the slice itself.")
        if feature_planes < 0:
            raise ValueError(f"feature_planes is {feature_planes}; give a number of channels from 0.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give a number of slices from 1.")
        self.slice_offsets = tuple(int(offset) for offset in slice_offsets)
        self.feature_planes = feature_planes
        self.batch_size = batch_size
        self.progress = progress

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compute the logits.

        Args:
            inputs: image and planes, B (C + F) D H W.
            network: gives logits, N K H W, of slices, N (n C + F) H W, with n offsets.
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            Logits, B K D H W float32, a `MetaTensor` where the image is one.

        Raises:
            InputError: if the network gives logits that are not finite.
            ValueError: if the image is no volume with a channel beside the planes, or if the network gives anything but
                one tensor of the slices' size.
        """
        if inputs.dim() != 5 or inputs.shape[1] <= self.feature_planes:
            problem = f"Images have the shape {tuple(inputs.shape)}"
            raise ValueError(f"{problem}; give B C D H W with channels beside the {self.feature_planes} planes.")
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        source = image_name(inputs)
        with torch.no_grad():
            logits = torch.stack([self._one(volume, network, source, args, kwargs) for volume in plain])
        if isinstance(inputs, MetaTensor):
            return MetaTensor(logits).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-any-return]
        return logits

    def _one(
        self,
        volume: torch.Tensor,
        network: Callable[..., torch.Tensor],
        source: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> torch.Tensor:
        count = volume.shape[1]
        channels = len(volume) - self.feature_planes
        image, planes = volume[:channels], volume[channels:]
        offsets = torch.tensor(self.slice_offsets, device=volume.device)
        made: torch.Tensor | None = None
        with tqdm(total=count, desc="slices", leave=False, disable=not self.progress) as bar:
            for first in range(0, count, self.batch_size):
                last = min(first + self.batch_size, count)
                middle = torch.arange(first, last, device=volume.device)
                places = (middle[:, None] + offsets).clamp(0, count - 1)
                # N n C H W
                seen = image[:, places].permute(1, 2, 0, 3, 4).flatten(1, 2)
                logits = network(torch.cat([seen, planes[:, first:last].transpose(0, 1)], 1), *args, **kwargs)
                self._check(logits, seen, source)
                if made is None:
                    made = logits.new_empty((logits.shape[1], count, *logits.shape[2:]), dtype=torch.float32)
                made[:, first:last] = logits.transpose(0, 1)
                bar.update(last - first)
        assert made is not None  # a volume has slices
        return made

    @staticmethod
    def _check(logits: object, seen: torch.Tensor, source: str) -> None:
        wanted = (len(seen), *seen.shape[2:])
        if not isinstance(logits, torch.Tensor) or (len(logits), *logits.shape[2:]) != wanted:
            found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ValueError(f"The network must give one tensor for {len(seen)} slices of {wanted[1:]}, gave {found}.")
        if not bool(torch.isfinite(logits).all()):
            problem = "the network's output is not finite"
            raise InputError(source, problem, "look for NaN or infinite voxels in the image and in the weights")

"""One slice of a batch as a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtmed.metrics.overlay import label_colours, tinted
from mtmed.organ_masks import packed_names

__all__ = ["middle_slice", "most_labelled", "organ_slice"]


def middle_slice(volume: Tensor, index: int | None = None, *, sample: int = 0) -> Tensor:
    """Axial slice of a sample of a B C H W [D] batch, as seen by a radiologist: H W in [0, 1].

    The patient's right is on the left, the front is up, if a volume is oriented RAS, or if rows and columns of 2D
    images grow to P and L.

    Args:
        volume: B C H W D, of which the first channel is taken; or B C H W, of which the middle one is: of neighbouring
            slices as channels the slice itself.
        index: slice along the last axis of volumes, the middle one if None.
        sample: sample of the batch.
    """
    image = _plane(volume, index, sample).float()
    low, high = image.min(), image.max()
    return (image - low) / (high - low).clamp_min(1e-8)


def most_labelled(label: Tensor) -> tuple[int, int | None]:
    """Sample and slice that show the most of a label map.

    Args:
        label: B 1 H W D or B 1 H W.

    Returns:
        Of volumes the first sample and its slice with most label, None where there is no label; of 2D images the
        sample with most label, and None.
    """
    labelled = label[:, 0] > 0
    if label.dim() == 4:
        return int(labelled.sum(dim=(1, 2)).argmax()), None
    return 0, int(labelled[0].sum(dim=(0, 1)).argmax()) if bool(labelled[0].any()) else None


def organ_slice(
    image: Tensor, packed: Tensor, organs: Sequence[str], index: int | None = None, *, sample: int = 0
) -> NDArray[Any]:
    """The slice of `middle_slice` with the masks of organs over it, H W 3 in [0, 1].

    Each organ, and each set of organs that overlap, has the colour that it has in
    `mtmed.metrics.overlay.overlay_figure`.

    Args:
        image: B C H W [D].
        packed: packed masks B 1 H W [D], see `mtmed.organ_masks`.
        organs: names of the organs, in the order of the bits.
        index: see `middle_slice`.
        sample: sample of the batch.
    """
    grey = middle_slice(image, index, sample=sample).numpy()
    labels = _plane(packed, index, sample).numpy()
    names: dict[int | str, str] = dict(packed_names(organs).items())
    return tinted(np.repeat(grey[..., None], 3, axis=-1), labels, label_colours(names))


def _plane(volume: Tensor, index: int | None, sample: int) -> Tensor:
    if volume.dim() == 4:
        return volume[sample, volume.shape[1] // 2].detach().cpu()
    image = volume[sample, 0].detach().cpu()
    return image[..., image.shape[-1] // 2 if index is None else index].flip(0, 1).T

"""Dictionary transforms around tissue maps: make, relabel, merge lesions, append as channels."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.tissue_cache import cached_tissue
from mtmed.transforms.tissue_segmentation import segment_tissue, tissue_method
from mtmed.transforms.tissue_tables import CSF, GREY_MATTER, WHITE_MATTER, read_tissue_table, relabel_tissue

__all__ = ["MergeLesionsd", "RelabelTissued", "SegmentTissued", "TissueChannelsd"]


class SegmentTissued(MapTransform):
    """Add the tissue map of a case, made from its T1 by `mtmed.transforms.tissue_segmentation.segment_tissue`.

    Adds a `MetaTensor` (1, H, W, D) uint8 on the image's grid: 0 outside, 1 CSF, 2 grey matter, 3 white matter.

    Args:
        image_key: entry with the image, `MetaTensor` (C, H, W, D), exactly 0 outside of the brain; scale and offset
            of the intensities do not matter, so it may stand before or after normalisation.
        channel: which channel is the T1.
        tissue_key: entry to add.
        cache_dir: folder where maps are kept (see `mtmed.transforms.tissue_cache`); None keeps none.

    Raises:
        InputError: dipy is not installed, the image has no such channel, or see `segment_tissue`.
    """

    not_in_fingerprint = ("cache_dir",)

    def __init__(
        self, image_key: str = "image", *, channel: int, tissue_key: str = "tissue", cache_dir: str | None = None
    ) -> None:
        super().__init__(image_key)
        if channel < 0:
            raise InputError("SegmentTissued.channel", f"is {channel}", "count the channels from 0")
        self.channel = channel
        self.tissue_key = tissue_key
        self.cache_dir = cache_dir
        # a volume store recognises a changed procedure by this
        self.method = tissue_method()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the map."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[self.tissue_key] = self._segment(result[key])
        return result

    def _segment(self, image: MetaTensor) -> MetaTensor:
        file = image.meta.get("filename_or_obj", "the image")
        if self.channel >= len(image):
            problem = f"has {len(image)} channels, T1 shall be number {self.channel} counted from 0"
            raise InputError(file, problem, "correct the modalities, or channel of SegmentTissued")
        name = f"T1 (channel {self.channel}) of {file}"
        t1: NDArray[Any] = image.as_tensor()[self.channel].cpu().numpy()
        affine = np.asarray(image.affine.cpu(), np.float64)
        if self.cache_dir is None:
            tissue = segment_tissue(t1, spacing=np.linalg.norm(affine[:3, :3], axis=0).tolist(), name=name)
        else:
            tissue = cached_tissue(t1, affine=affine, cache_dir=self.cache_dir, name=name)
        return _like(torch.from_numpy(tissue)[None], image)


class RelabelTissued(MapTransform):
    """Turn a user's tissue map into mtmed's values.

    Gives a `MetaTensor` (1, H, W, D) uint8: 0 outside, 1 CSF, 2 grey matter, 3 white matter.

    Args:
        tissue_key: entry with the map, (1, H, W, D), whole numbers.
        table: name of a table in `mtmed.transforms.tissue_tables.TISSUE_TABLES` (``"mtmed"``, ``"fast"``, ``"spm"``,
            ``"synthseg"``), or value to value, such as ``{1: "csf", 2: "grey_matter", 3: "white_matter"}``; None for
            maps with mtmed's own values.

    Raises:
        InputError: the table cannot be read; the map holds fractions or values that the table does not have.
    """

    def __init__(self, tissue_key: str = "tissue", *, table: str | Mapping[int | str, int | str] | None = None) -> None:
        super().__init__(tissue_key)
        self.table = read_tissue_table(table)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the map."""
        result = dict(data)
        for key in self.key_iterator(result):
            values = torch.as_tensor(result[key])
            plain = values.as_tensor() if isinstance(values, MetaTensor) else values
            name = values.meta.get("filename_or_obj", key) if isinstance(values, MetaTensor) else key
            result[key] = _like(torch.from_numpy(relabel_tissue(plain.cpu().numpy(), self.table, name=name)), values)
        return result


class MergeLesionsd(MapTransform):
    """Make the voxels of lesions white matter in a tissue map (Abolvardi, Hamey, Ho-Shon 2020).

    Lesions lie in white matter, but are as dark as grey matter in T1.

    Args:
        tissue_key: entry with the map, (1, H, W, D).
        lesion_key: entry with the lesions, (1, H, W, D); what is above 0.5 is lesion.
        white_matter: value that the voxels get.

    Raises:
        InputError: a case has no lesion mask, or one on another grid.
    """

    def __init__(
        self, tissue_key: str = "tissue", *, lesion_key: str = "label", white_matter: int = WHITE_MATTER
    ) -> None:
        super().__init__(tissue_key)
        self.lesion_key = lesion_key
        self.white_matter = white_matter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the map."""
        result = dict(data)
        for key in self.key_iterator(result):
            if self.lesion_key not in result:
                problem = f"the case has none; its tissue map shall take lesions from {self.lesion_key!r}"
                raise InputError(self.lesion_key, problem, "give a lesion mask, or leave the merging out")
            tissue, lesion = result[key], torch.as_tensor(result[self.lesion_key])
            _require_same_grid(lesion, tissue, self.lesion_key, key)
            result[key] = tissue.masked_fill(lesion.to(tissue.device) > 0.5, self.white_matter)
        return result


class TissueChannelsd(MapTransform):
    """Append a tissue map to the image as three channels of 0 and 1: CSF, grey matter, white matter.

    Args:
        image_key: entry with the image, (C, H, W, D) floating; becomes (C + 3, H, W, D) with the same meta data.
        tissue_key: entry with the map, (1, H, W, D), which stays.

    Raises:
        InputError: the map lies on another grid than the image, or a case has none.
    """

    def __init__(self, image_key: str = "image", *, tissue_key: str = "tissue") -> None:
        super().__init__(image_key)
        self.tissue_key = tissue_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the image."""
        result = dict(data)
        for key in self.key_iterator(result):
            if self.tissue_key not in result:
                raise InputError(self.tissue_key, "the case has no tissue map", "make or list one for each case")
            image, tissue = result[key], torch.as_tensor(result[self.tissue_key])
            _require_same_grid(tissue, image, self.tissue_key, key)
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            values = torch.tensor([CSF, GREY_MATTER, WHITE_MATTER], device=plain.device)
            one_hot = tissue.to(plain.device) == values.reshape(3, *[1] * (plain.ndim - 1))
            one_hot = one_hot.as_tensor() if isinstance(one_hot, MetaTensor) else one_hot
            result[key] = _like(torch.cat([plain, one_hot.to(plain.dtype)]), image)
        return result


def _like(voxels: torch.Tensor, source: torch.Tensor) -> MetaTensor:
    """Voxels with the meta data, affine and applied operations of another tensor."""
    tensor = MetaTensor(voxels)
    return tensor.copy_meta_from(source) if isinstance(source, MetaTensor) else tensor


def _require_same_grid(second: torch.Tensor, first: torch.Tensor, second_key: str, first_key: Hashable) -> None:
    if second.shape[1:] != first.shape[1:] or len(second) != 1:
        problem = f"has shape {tuple(second.shape)}, {first_key} has {tuple(first.shape)}"
        raise InputError(second_key, problem, "give both one grid, and the map one channel")

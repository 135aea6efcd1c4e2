"""From draws to samples, every sample a pure function of (seed, step, position)."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from mtmed.data.distance import DistanceUnit, boundary_distance, voxel_size
from mtmed.data.draw import Box, Draw, GroupDraw
from mtmed.data.region import read_region
from mtmed.data.slice_features import slice_features
from mtmed.data.slice_reading import read_slice
from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError
from mtmed.randomness import random_generator
from mtmed.transforms.slice_features import slice_position

__all__ = ["CropDataset"]


class CropDataset(Dataset[dict[str, Any]]):
    """Crops of prepared volumes, addressed by (step, position in the global batch).

    With k = step * global_batch_size + position, the item is number k mod n of pass k // n, each pass in its own
    random order: every item is seen once per pass, and no pass waits for a batch boundary. The n items are the
    volumes, or what the draw counts, for example slices. A draw that makes groups of g samples has one item per group:
    k // g instead of k.

    Args:
        volumes: the prepared cohort.
        draw: which boxes make a sample, see `mtmed.data.draw`.
        seed: seed of the run.
        global_batch_size: samples per step over all processes; a multiple of the draw's group size.
        patch_distance: unit in which `mtmed.data.distance.boundary_distance` of each patch's own label replaces the
            volume's. It costs a distance transform per patch and does not see a boundary just outside the patch. None
            keeps what the store has.
        features: names of the features that 2D samples have as ``condition``, see `mtmed.data.slice_features`.

    Raises:
        InputError: there is no case, the batch size is none for this draw, or the draw refuses the volumes.
    """

    def __init__(
        self,
        volumes: Volumes,
        draw: Draw | GroupDraw,
        *,
        seed: int,
        global_batch_size: int,
        patch_distance: DistanceUnit | None = None,
        features: Sequence[str] = (),
    ) -> None:
        if not len(volumes):
            raise InputError("volumes", "the cohort has no case", "list at least one training case")
        if not isinstance(global_batch_size, int) or global_batch_size < 1:
            raise InputError("global_batch_size", f"is {global_batch_size}, allowed is >= 1", "correct the batch size")
        self.volumes, self.draw, self.seed = volumes, draw, seed
        self.global_batch_size = global_batch_size
        self.patch_distance = patch_distance
        self.features = tuple(features)
        self.grouped = hasattr(draw, "group_size")
        self.group_size = int(getattr(draw, "group_size", 1))
        if global_batch_size % self.group_size:
            problem = f"is {global_batch_size}, the draw makes groups of {self.group_size} samples"
            raise InputError("global_batch_size", problem, f"give a multiple of {self.group_size}")
        if hasattr(draw, "check"):
            draw.check(volumes)
        self._items = int(draw.count(volumes)) if hasattr(draw, "count") else len(volumes)
        self._order: tuple[int, Sequence[int]] = (-1, ())
        self._group: tuple[tuple[int, int], Sequence[Mapping[str, Box]]] = ((-1, -1), ())

    def case_index(self, step: int, position: int) -> int:
        """Index of the volume, or of the draw's item, whose turn it is."""
        turn, place = divmod((step * self.global_batch_size + position) // self.group_size, self._items)
        if self._order[0] != turn:
            order = random_generator(self.seed, turn, 0, "order").permutation(self._items)
            self._order = (turn, order.tolist())
        return self._order[1][place]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Draw and read one sample.

        Returns:
            ``image`` float32 (C, H, W, D), ``label`` and ``distance`` (1, H, W, D) where there are any, ``volume``
            and ``dataset`` of the role ``"patch"``; each other role as a dictionary of these under its name;
            ``step`` and ``position``. A box of the image only has neither label nor maps. A box with a region gives,
            instead of all arrays, ``image`` as `mtmed.data.region.read_region` shows it, and ``value``, the region's. A
            slice has two axes, H W, and also gives ``slice``, its number, ``slice_position`` from 0 to 1, ``group``,
            the number of its group within the global batch (of a draw without groups: its position), and ``condition``
            (F,) if `features` are asked for.
        """
        step, position = key
        sample: dict[str, Any] = {"step": step, "position": position}
        for role, box in self._boxes(step, position).items():
            volume = self.volumes[box.volume]
            part = self._read(volume, box)
            part |= {"volume": box.volume, "dataset": volume.dataset}
            if box.slice_offsets is not None:
                part["group"] = position // self.group_size
            if role == "patch":
                sample |= part
            else:
                sample[role] = part
        return sample

    def _boxes(self, step: int, position: int) -> Mapping[str, Box]:
        if not self.grouped:
            generator = random_generator(self.seed, step, position, "draw")
            return cast(Draw, self.draw)(self.volumes, self.case_index(step, position), generator)
        number, place = divmod(position, self.group_size)
        if self._group[0] != (step, number):
            generator = random_generator(self.seed, step, position - place, "draw")
            drawn = cast(GroupDraw, self.draw)(self.volumes, self.case_index(step, position), generator)
            self._group = (step, number), drawn
        return self._group[1][place]

    def _read(self, volume: Volume, box: Box) -> dict[str, Any]:
        if box.region is not None:
            image = read_region(volume, box.start, box.size, box.region)
            return {"image": torch.from_numpy(image), "value": box.region.value}
        flat = box.slice_offsets is not None
        if flat:
            arrays = read_slice(volume, box)
        elif box.image_only:
            arrays = {"image": volume.crop_image(box.start, box.size)}
        else:
            arrays = volume.crop(box.start, box.size)
        if self.patch_distance is not None and "label" in arrays:
            label = arrays["label"][0]
            size = voxel_size(volume.affine, self.patch_distance)[-label.ndim :]
            arrays["distance"] = boundary_distance(label, spacing=size)[None].astype(np.float32)
        part: dict[str, Any] = {name: torch.from_numpy(values) for name, values in arrays.items()}
        if flat:
            index = box.start[0]
            part |= {"slice": index, "slice_position": slice_position(index, volume.shape[0])}
            if self.features:
                part["condition"] = torch.from_numpy(slice_features(volume, index, self.features))
        return part

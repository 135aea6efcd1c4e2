"""Which boxes of which volumes make a sample.

A draw is a function ``draw(volumes, index, generator) -> {role: Box}``. Whatever makes the samples of two methods
differ is a draw; the data set, loader and network know nothing of it. ``"patch"`` is the role with the label of the
segmentation task.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mtmed.data.region import Region
from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError

__all__ = ["Box", "Draw", "GroupDraw", "PatchPair", "RandomCrop", "checked_probability", "checked_size"]


class Box(NamedTuple):
    """A box of one volume.

    Attributes:
        volume: index of the volume.
        start: first voxel (H, W, D); negative where the volume is smaller than the box.
        size: extent, voxels.
        region: the region of the volume that the box shows, and how; None for all arrays as they are.
        slice_offsets: which slices become the channels of a 2D sample, counted from the box's own one; the box is then
            one voxel thick along the first axis. None for a 3D box. See `mtmed.data.slice_reading.read_slice`.
        image_only: without label, distance and maps, so that labelled and unlabelled volumes make one batch.
    """

    volume: int
    start: tuple[int, ...]
    size: tuple[int, ...]
    region: Region | None = None
    slice_offsets: tuple[int, ...] | None = None
    image_only: bool = False


class Draw(Protocol):
    """What a `CropDataset` asks for its boxes.

    A draw may have a method ``count(volumes)``, the number of items that a pass has, if that is not the number of
    volumes; ``index`` then counts these. It may have a method ``check(volumes)``, called once before the first draw,
    which raises an `InputError` for volumes that it cannot draw from.
    """

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> Mapping[str, Box]:
        """Give one box per role for the case ``index``; every random choice is taken from ``generator``."""
        ...


class GroupDraw(Protocol):
    """A draw whose samples depend on each other; it makes `group_size` consecutive samples of a batch at once.

    It may have ``count`` and ``check`` as a `Draw` may; items are then counted in groups.
    """

    group_size: int

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> Sequence[Mapping[str, Box]]:
        """Give one box per role for each sample of the group; every random choice is taken from ``generator``."""
        ...


class RandomCrop:
    """One box of the case, half of the time (by default) centred on labelled foreground.

    For a foreground box, one of the volume's foreground classes is drawn, each alike, then one voxel of it, which
    becomes the centre as far as the volume's edge allows. So a small organ is seen as often as a large one. All other
    boxes, and those of volumes without foreground, lie anywhere in the volume, each place alike. Along an axis on
    which the volume is smaller than the box, it is centred, zeros around it.

    Args:
        patch_size: extent of the box (H, W, D), voxels.
        foreground_probability: share of boxes centred on foreground.
    """

    def __init__(self, *, patch_size: Sequence[int], foreground_probability: float = 0.5) -> None:
        self.patch_size = checked_size("patch_size", patch_size)
        self.foreground_probability = checked_probability("foreground_probability", foreground_probability)

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw the box; see `Draw`."""
        return {"patch": _draw_box(volumes[index], self.patch_size, self.foreground_probability, generator)}


class PatchPair:
    """Two boxes of one data set, the pair that MixCL contrasts (Li, Quan, Zhou 2022, arXiv 2203.02114).

    ``"patch"`` is of the case itself; ``"auxiliary"`` is of the same case or of another case of the same data set, in
    the paper 1:1. Labels of two data sets are so never compared. A data set of one case gives both.

    Args:
        patch_size: extent of both boxes (H, W, D), voxels.
        foreground_probability: share of boxes centred on foreground, see `RandomCrop`.
        same_image_probability: how often the auxiliary box is of the same case.
    """

    def __init__(
        self, *, patch_size: Sequence[int], foreground_probability: float = 0.5, same_image_probability: float = 0.5
    ) -> None:
        self.patch_size = checked_size("patch_size", patch_size)
        self.foreground_probability = checked_probability("foreground_probability", foreground_probability)
        self.same_image_probability = checked_probability("same_image_probability", same_image_probability)

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw both boxes; see `Draw`."""
        volume = volumes[index]
        patch = _draw_box(volume, self.patch_size, self.foreground_probability, generator)
        same = generator.random() < self.same_image_probability
        others = [other for other in volumes.members(volume.dataset) if other != index]
        partner = volume if same or not others else volumes[others[int(generator.integers(len(others)))]]
        auxiliary = _draw_box(partner, self.patch_size, self.foreground_probability, generator)
        return {"patch": patch, "auxiliary": auxiliary}


def _draw_box(volume: Volume, size: tuple[int, ...], probability: float, generator: np.random.Generator) -> Box:
    if len(size) != len(volume.shape):
        problem = f"has {len(size)} extents, the volume {volume.case.key} has {len(volume.shape)} dimensions"
        raise InputError("patch_size", problem, "give one extent per dimension")
    wanted = generator.random() < probability
    classes = [value for value in volume.classes if value > 0]
    centre = None
    if wanted and classes:
        table = volume.coordinates(classes[int(generator.integers(len(classes)))])
        centre = [int(place) for place in table[int(generator.integers(len(table)))]]
    start = []
    for axis, (extent, length) in enumerate(zip(volume.shape, size, strict=True)):
        room = extent - length
        if room <= 0:
            start.append(-(-room // 2))
        elif centre is not None:
            start.append(min(max(centre[axis] - length // 2, 0), room))
        else:
            start.append(int(generator.integers(room + 1)))
    return Box(volume.index, tuple(start), size)


def checked_size(name: str, given: Sequence[int]) -> tuple[int, ...]:
    """Require the extent of a box: 2 or 3 whole numbers >= 1, else an `InputError` of the option ``name``."""
    size = tuple(int(length) for length in given)
    if len(size) not in (2, 3) or min(size) < 1 or size != tuple(given):
        raise InputError(name, f"is {list(given)}, allowed are 2 or 3 whole numbers >= 1", "correct it")
    return size


def checked_probability(name: str, value: float) -> float:
    """Require a number from 0 to 1, else an `InputError` of the option ``name``."""
    if not 0 <= value <= 1:
        raise InputError(name, f"is {value}, allowed is 0 to 1", "correct it")
    return float(value)

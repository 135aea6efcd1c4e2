"""Which voxels are the left kidney and which the right one, or why that cannot be said.

Rules, in this order, on connected components (26 neighbours) of what is labelled; those below ``minimum_ml`` count as
specks and belong to no side:

1. A component that has more than a tenth of its volume on the other side of the mid-sagittal plane than the rest of
   it is a horseshoe kidney, a fused pair, or crosses otherwise: neither side is taken.
2. Two components on one side, the smaller above half of the larger, and none on the other side are a crossed kidney or
   a wrong plane: neither side is taken.
3. Else the largest component of a side is its kidney, with the tumour that belongs to it.

A tenth is ample: in 27 label maps of KiTS19, with tumours of up to 982 ml (a component of 1133 ml), no component has a
single voxel beyond the plane; the nearest stays 14 mm away from it. Two fused kidneys have about half of their volume
on either side.

Where there is no body to find the plane by, in label maps without CT, the kidneys themselves say it better than the
grid, in which a patient may lie off-centre (by up to 17 mm in these 27): it is midway between the centroids of the two
largest components, if these lie at least 80 mm apart along the left-right axis (123 to 197 mm in these 27). Nearer
ones may lie on one side, and a single one says nothing: then it is the middle of the grid.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from mtmed.errors import InputError
from mtmed.transforms.body import body_mask, grid_middle, median_index
from mtmed.transforms.ras import map_like, ras_voxels

__all__ = ["KidneySidesd", "kidney_sides"]

_LEFT, _RIGHT = 1, 2
_NAMES = {_LEFT: "left", _RIGHT: "right"}
_CROSSING = 0.1  # share of a component beyond the plane
_SECOND = 0.5  # of the largest component: a second kidney rather than a piece
_PAIR = 80.0  # mm between the centroids of two kidneys on two sides
_NEIGHBOURS = np.ones((3, 3, 3), bool)


class _Component(NamedTuple):
    """A connected component; ``along`` counts its voxels at each index of axis 0."""

    value: int
    millilitres: float
    along: NDArray[np.int64]

    @property
    def centroid(self) -> float:
        """Position of the centroid on axis 0, voxels."""
        return float(np.average(np.arange(len(self.along)), weights=self.along))

    def side(self, mid: float) -> int:
        """Side of the centroid: what has the smaller index lies to the patient's left."""
        return _LEFT if self.centroid < mid else _RIGHT

    def beyond(self, mid: float) -> float:
        """Share of the volume on the other side than the centroid; voxels cut by the plane count in part."""
        left = float(self.along @ np.clip(mid + 0.5 - np.arange(len(self.along)), 0, 1)) / float(self.along.sum())
        return 1 - left if self.side(mid) == _LEFT else left


def kidney_sides(
    label: NDArray[Any], *, spacing: Sequence[float], mid: float | None = None, minimum_ml: float = 10.0
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Find the left and the right kidney in a label map; see the module's text for the rules.

    Args:
        label: H W D, axes R, A, S; what is above 0.5 is kidney (with tumours and cysts).
        spacing: size of a voxel along each axis, mm.
        mid: position of the mid-sagittal plane on axis 0, voxels; None finds it from the kidneys.
        minimum_ml: volume below which a component is no kidney, millilitres.

    Returns:
        H W D: 0 none, 1 left kidney, 2 right kidney; and one sentence for each side that is left out, or for both, and
        for each further component of ``minimum_ml`` or more that is left out.
    """
    if label.ndim != 3:
        raise ValueError(f"label has shape {label.shape}, expected H W D.")
    sides = np.zeros(label.shape, np.uint8)
    foreground = label > 0.5
    box = ndimage.find_objects(foreground.view(np.uint8))[:1]
    if not box:
        return sides, ("Both kidneys are left out: nothing is labelled.",)
    parts, _ = ndimage.label(foreground[box[0]], _NEIGHBOURS)
    start = box[0][0].start
    components = [
        component
        for component in _components(parts, start, float(np.prod(spacing)) * 1e-3)
        if component.millilitres >= minimum_ml
    ]
    if not components:
        return sides, (f"Both kidneys are left out: no component has {minimum_ml:g} ml.",)
    if mid is None:
        mid = _middle(components, label.shape, spacing[0])
    remark = _why_neither(components, mid)
    if remark is not None:
        return sides, (remark,)
    remarks: list[str] = []
    inside = sides[box[0]]
    for side, name in _NAMES.items():
        here = [component for component in components if component.side(mid) == side]
        if not here:
            remarks.append(f"The {name} kidney is missing: no component of {minimum_ml:g} ml or more is on its side.")
            continue
        inside[parts == here[0].value] = side
        remarks += [
            f"A further component of {other.millilitres:.0f} ml on the {name} side is left out, "
            f"since the kidney there has {here[0].millilitres:.0f} ml."
            for other in here[1:]
        ]
    return sides, tuple(remarks)


class KidneySidesd(MapTransform):
    """Add the map of the kidneys' sides, made by `kidney_sides`, and what it remarks.

    Adds a `MetaTensor` (1, H, W, D) uint8 on the label's grid: 0 none, 1 left, 2 right. The mid-sagittal plane comes
    from the body in the image; where there is none to be seen (label maps without CT), from the kidneys.

    Args:
        label_key: entry with the label map, `MetaTensor` (1, H, W, D), axes R, A, S.
        image_key: entry with the CT in HU on the same grid, so this comes before the intensity window.
        side_key: entry to add.
        minimum_ml: volume below which a component is no kidney, millilitres.

    Raises:
        InputError: ``minimum_ml`` is negative; an entry has no affine, or other axes than R, A, S.
    """

    def __init__(
        self,
        label_key: str = "label",
        image_key: str = "image",
        side_key: str = "side",
        *,
        minimum_ml: float = 10.0,
    ) -> None:
        super().__init__(label_key)
        if minimum_ml < 0:
            raise InputError("KidneySidesd.minimum_ml", f"is {minimum_ml:g}", "give a volume in ml")
        self.image_key = image_key
        self.side_key = side_key
        self.minimum_ml = minimum_ml

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the map, and the sentences to ``remarks``."""
        result = dict(data)
        for key in self.key_iterator(result):
            label, spacing = ras_voxels(result[key], str(key))
            image, _ = ras_voxels(result[self.image_key], self.image_key)
            body = body_mask(image, spacing=spacing)
            mid = None if body is None else median_index(body)
            sides, remarks = kidney_sides(label, spacing=spacing, mid=mid, minimum_ml=self.minimum_ml)
            result[self.side_key] = map_like(sides, result[key])
            result["remarks"] = [*result.get("remarks", ()), *remarks]
        return result


def _components(parts: NDArray[np.int32], start: int, voxel_ml: float) -> list[_Component]:
    """All components, the largest first."""
    counts = np.bincount(parts.ravel())
    found = []
    for value, box in enumerate(ndimage.find_objects(parts), start=1):
        along = np.zeros(start + parts.shape[0], np.int64)
        along[start + box[0].start : start + box[0].stop] = np.count_nonzero(parts[box] == value, axis=(1, 2))
        found.append(_Component(value, float(counts[value]) * voxel_ml, along))
    return sorted(found, key=lambda component: -component.millilitres)


def _middle(components: Sequence[_Component], shape: Sequence[int], width: float) -> float:
    """Position of the mid-sagittal plane as far as kidneys say it, else the middle of the grid."""
    if len(components) > 1:
        first, second = (component.centroid for component in components[:2])
        if abs(first - second) * width >= _PAIR:
            return (first + second) / 2
    return grid_middle(shape)


def _why_neither(components: Sequence[_Component], mid: float) -> str | None:
    """A sentence on why neither side can be taken."""
    for component in components:
        beyond = component.beyond(mid)
        if beyond > _CROSSING:
            return (
                f"Both kidneys are left out: a component of {component.millilitres:.0f} ml has {beyond:.0%} of its "
                f"volume beyond the mid-sagittal plane (fused, horseshoe or crossing)."
            )
    if len({component.side(mid) for component in components}) == 1 and len(components) > 1:
        first, second = components[:2]
        if second.millilitres > _SECOND * first.millilitres:
            name = _NAMES[first.side(mid)]
            return (
                f"Both kidneys are left out: two components of {first.millilitres:.0f} and {second.millilitres:.0f} ml "
                f"are on the {name} side and none is on the other (crossed, or the plane is wrong)."
            )
    return None

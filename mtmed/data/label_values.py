"""What values a label map holds, and whether they are those that its data set names."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_organs", "count_values", "label_problem"]

_CHUNK = 1 << 22  # voxels counted at a time, so that counting needs little memory


def count_values(data: NDArray[Any]) -> dict[int, int]:
    """Voxels of each value of an integer array."""
    low, high = int(data.min()), int(data.max())
    if high - low >= 1 << 16:
        values, counts = np.unique(data, return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    flat = data.ravel(order="K")
    total = np.zeros(high - low + 1, np.int64)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK].astype(np.int64) - low
        total += np.bincount(chunk, minlength=total.size)
    return {int(value) + low: int(total[value]) for value in np.flatnonzero(total)}


def count_organs(voxels: Mapping[int, int]) -> dict[int, int]:
    """From voxels of each value of packed masks (`mtmed.organ_masks`) to voxels of each organ, by its bit; 0: of none.

    A voxel counts for each of its organs.
    """
    counts = {value: count for value, count in voxels.items() if value == 0}
    for value, count in voxels.items():
        for place in range(value.bit_length()):
            if value >> place & 1:
                counts[1 << place] = counts.get(1 << place, 0) + count
    return dict(sorted(counts.items()))


def label_problem(
    voxels: Mapping[int, int], names: Mapping[int, str], *, overlapping: bool = False
) -> tuple[str, str] | None:
    """Problem and remedy if a label map holds values that its data set does not name; None if all are named.

    Args:
        voxels: voxels of each value that it holds.
        names: name of each value; of each bit, if masks may overlap.
        overlapping: any sum of the values is one too.
    """
    known = set(names)
    every_bit = sum(known)
    outside = sorted(v for v in voxels if (v < 0 or v & ~every_bit if overlapping else v not in known))
    if not outside:
        return None
    some = ", ".join(map(str, outside[:8])) + (" ..." if len(outside) > 8 else "")
    allowed = ", ".join(f"{value} {name}" for value, name in names.items()) + (" and sums" if overlapping else "")
    if outside == [255] and sorted(names) == [0, 1] and 1 not in voxels:
        problem = f"label values are 0 and 255 where 0 and 1 are expected ({allowed})"
        return problem, "divide the map by 255, or write 255 instead of 1 in the manifest's labels"
    return f"label values {some} are not in the manifest ({allowed})", "correct one of the two"

"""Names of slice files as in the UW-Madison GI tract data: number, size in pixels and pixel spacing."""

import re
from dataclasses import dataclass
from pathlib import Path

from mtmed.errors import InputError

__all__ = ["SLICE_NAME", "SliceName", "parse_slice_name", "spacing_by_name", "swapped_spacing"]

SLICE_NAME = re.compile(
    r"slice_(?P<number>\d+)_(?P<width>\d+)_(?P<height>\d+)_(?P<x>\d+(?:\.\d+)?)_(?P<y>\d+(?:\.\d+)?)\.png",
    re.IGNORECASE,
)
"""``slice_NNNN_W_H_sx_sy.png``: number from 1, width and height in pixels, spacing of columns and of rows in mm."""


@dataclass(frozen=True)
class SliceName:
    """What the name of a slice says.

    The data set's authors and their winners' code read width before height, several public notebooks the reverse.

    Attributes:
        number: of the slice in its scan, usually from 1.
        width: columns.
        height: rows.
        spacing_x: distance of neighbouring columns, mm.
        spacing_y: distance of neighbouring rows, mm.
    """

    number: int
    width: int
    height: int
    spacing_x: float
    spacing_y: float


def parse_slice_name(name: str) -> SliceName | None:
    """Read the name of a file; None if it is no name of a slice.

    Example::

        >>> parse_slice_name("slice_0012_266_310_1.50_1.63.png")
        SliceName(number=12, width=266, height=310, spacing_x=1.5, spacing_y=1.63)
    """
    found = SLICE_NAME.fullmatch(name)
    if found is None:
        return None
    number, width, height = (int(found[key]) for key in ("number", "width", "height"))
    return SliceName(number, width, height, float(found["x"]), float(found["y"]))


def spacing_by_name(path: Path, name: SliceName, width: int, height: int) -> tuple[float, float, bool]:
    """Spacing of columns and rows (mm) of a slice of known size.

    The size is the image's; the name must agree with it. A name that gives height before width is accepted, and its
    spacings are then taken in this order too.

    Returns:
        Spacing of columns, spacing of rows, and whether the name gives the height first.

    Raises:
        InputError: name and image disagree about the size.
    """
    if (width, height) == (name.width, name.height):
        return name.spacing_x, name.spacing_y, False
    if (height, width) == (name.width, name.height):
        return name.spacing_y, name.spacing_x, True
    problem = f"is {width}x{height} pixels, its name says {name.width}x{name.height}"
    raise InputError(path, problem, "correct the name, or export the slice again")


def swapped_spacing(x: float, y: float) -> str:
    """What a note on names with height before width must say of the spacing; nothing if pixels are square.

    Args:
        x: spacing of columns as taken, mm.
        y: spacing of rows as taken, mm.
    """
    return "" if x == y else f", and so of the spacings: columns {x:g} mm, rows {y:g} mm apart"

"""A scan kept as a folder of PNG slices, ``case123_day20/scans/slice_0001_266_266_1.50_1.50.png``, as one volume."""

from collections import Counter
from pathlib import Path

import numpy as np

from mtmed.errors import InputError
from mtmed.transforms.nifti import NiftiVolume, check_geometry
from mtmed.transforms.png import SLICE_DISTANCE, planar_affine, read_grey
from mtmed.transforms.slice_name import SLICE_NAME, SliceName, parse_slice_name, spacing_by_name, swapped_spacing

__all__ = [
    "SLICE_NAME",
    "SliceName",
    "is_slice_stack",
    "parse_slice_name",
    "read_slice_stack",
    "scan_name",
    "slice_files",
    "slice_numbers",
]


def is_slice_stack(folder: str | Path) -> bool:
    """Whether a path is a folder that directly contains slices."""
    folder = Path(folder)
    return folder.is_dir() and any(parse_slice_name(path.name) for path in folder.iterdir())


def scan_name(folder: str | Path) -> str:
    """Name of the scan in a folder of slices: ``case123_day20`` for ``case123_day20/scans`` and ``case123_day20``."""
    folder = Path(folder).absolute()
    return folder.parent.name if folder.name == "scans" else folder.name


def slice_files(folder: str | Path) -> list[Path]:
    """The slices of a folder, by their numbers; files that are no PNG do not count.

    Raises:
        InputError: the folder is missing or holds no slice, a PNG of another name, or two slices of one number.
    """
    return [path for _, path in _named(Path(folder))]


def slice_numbers(folder: str | Path) -> list[int]:
    """Numbers of the slices of a folder, ascending, in the order of `slice_files`."""
    return [name.number for name, _ in _named(Path(folder))]


def read_slice_stack(folder: str | Path) -> NiftiVolume:
    """Read a folder of slices as one volume (W, H, D): columns, rows, slices.

    Axes and affine are those of `mtmed.transforms.png.read_png`; slices grow to the head and are 3 mm apart. The shape
    comes from the images, the spacing from the names. A note says which numbers are missing between the first and the
    last slice, since the volume has no gap there.

    Raises:
        InputError: see `slice_files` and `mtmed.transforms.png.read_png`; or slices differ in size, depth or spacing.
    """
    folder = Path(folder)
    named = _named(folder)
    first_name, first_path = named[0]
    first = read_grey(first_path)
    height, width = first.shape
    voxels = np.empty((len(named), height, width), first.dtype)
    spacing = spacing_by_name(first_path, first_name, width, height)[:2]
    swapped = 0
    for index, (name, path) in enumerate(named):
        pixels = read_grey(path) if index else first
        x, y, other_way = spacing_by_name(path, name, pixels.shape[1], pixels.shape[0])
        if pixels.shape != first.shape:
            found, expected = (f"{shape[1]}x{shape[0]}" for shape in (pixels.shape, first.shape))
            problem = f"is {found} pixels, the first slice of its scan is {expected}"
            raise InputError(path, problem, "export the scan again, or leave it out")
        if pixels.dtype != first.dtype:
            problem = f"has {8 * pixels.dtype.itemsize} bits, the first slice of its scan {8 * first.dtype.itemsize}"
            raise InputError(path, problem, "export the scan again with one depth")
        if (x, y) != spacing:
            problem = f"has pixels of {x:g} x {y:g} mm, the first slice of its scan {spacing[0]:g} x {spacing[1]:g} mm"
            raise InputError(path, problem, "correct the names, or leave the scan out")
        swapped += other_way
        voxels[index] = pixels
    notes = _missing_numbers([name.number for name, _ in named])
    if swapped:
        which = f"in the names of {swapped} of {len(named)} slices"
        notes.append(f"gives height before width {which}{swapped_spacing(*spacing)}")
    lengths = (*spacing, SLICE_DISTANCE)
    affine = planar_affine(*lengths)
    check_geometry(folder, affine, lengths)
    return NiftiVolume(voxels.T, affine, lengths, {}, str(folder), tuple(notes), oriented=False)


def _named(folder: Path) -> list[tuple[SliceName, Path]]:
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "correct the path in the data list")
    # macOS leaves resource files named ._* beside images
    pngs = [path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith(".")]
    named = []
    for path in pngs:
        name = parse_slice_name(path.name)
        if name is None:
            problem = "is not named as a slice of a scan, slice_0001_266_266_1.50_1.50.png"
            raise InputError(path, problem, "correct its name, or move it out of the folder")
        named.append((name, path))
    if not named:
        problem = "is a folder without slices named as slice_0001_266_266_1.50_1.50.png, and without DICOM files"
        raise InputError(folder, problem, "name a file, or a folder of such slices")
    named.sort(key=lambda pair: pair[0].number)
    number, count = Counter(name.number for name, _ in named).most_common(1)[0]
    if count > 1:
        raise InputError(folder, f"has {count} slices of the number {number}", "leave one of them")
    return named


def _missing_numbers(numbers: list[int]) -> list[str]:
    missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    if not missing:
        return []
    named = ", ".join(map(str, missing[:5])) + (" and more" if len(missing) > 5 else "")
    return [f"lacks {len(missing)} of its slices (number {named}); its neighbours are taken as adjacent"]

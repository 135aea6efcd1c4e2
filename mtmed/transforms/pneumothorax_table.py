"""Masks of a table ``ImageId, EncodedPixels``, as the ``train-rle.csv`` of the SIIM-ACR pneumothorax challenge."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtmed.errors import InputError
from mtmed.transforms.csv_table import KeptTables, table_header, table_rows
from mtmed.transforms.nifti import NiftiVolume
from mtmed.transforms.relative_run_length import decode_relative_run_lengths

__all__ = [
    "PneumothoraxTable",
    "is_pneumothorax_table",
    "labelled_images",
    "read_pneumothorax_table",
    "unlisted_images",
]

_COLUMNS = ("imageid", "encodedpixels")
_NONE = "-1"


@dataclass(frozen=True)
class PneumothoraxTable:
    """A table of masks as relative run lengths (`mtmed.transforms.relative_run_length`), parsed but not decoded.

    Attributes:
        path: the file.
        classes: the one organ of the packed masks.
        masks: for each image (its name without folder and format), the run lengths of its rows; none if the only row
            says ``-1``, that there is no pneumothorax. An image without a row is unlabelled, not negative.
        contradictory: images that have both a row of ``-1`` and a mask.
    """

    path: str
    masks: Mapping[str, tuple[str, ...]]
    contradictory: frozenset[str]
    classes: tuple[str, ...] = ("pneumothorax",)

    @classmethod
    def read(cls, path: str | Path) -> "PneumothoraxTable":
        """Read a table; one that did not change since it was read last is not read again.

        The columns ``ImageId`` and ``EncodedPixels`` are needed, with or without blanks around their names, as the
        challenge's file has ``" EncodedPixels"``; others are passed over.

        Raises:
            InputError: the file is missing or no such table.
        """
        return _tables.read(path)


def is_pneumothorax_table(path: str | Path) -> bool:
    """Whether a file is a table with the column ``ImageId``; False if it cannot be read."""
    path = Path(path)
    if path.suffix.lower() != ".csv" or not os.path.isfile(path):
        return False
    try:
        return _COLUMNS[0] in _names(path)
    except InputError:
        return False


def read_pneumothorax_table(path: str | Path, image: NiftiVolume) -> NiftiVolume:
    """Read the mask of one X-ray, packed (`mtmed.organ_masks.pack_masks`), on the grid of its image.

    The masks of all rows of the image are joined.

    Args:
        path: the table.
        image: the X-ray, of the size that the masks were drawn on; its name without format is the ``ImageId``.

    Returns:
        uint8 (W, H, 1): 1 (bit 0) where there is pneumothorax.

    Raises:
        InputError: the image is no single slice; naming the table and the image, if it has no row, rows of ``-1``
            beside masks, or run lengths that cannot be decoded for its size.
    """
    table = PneumothoraxTable.read(path)
    name = _image_name(image.path)
    width, height, *others = image.data.shape
    if any(side != 1 for side in others):
        problem = f"has masks of single images, but {image.path} is none"
        raise InputError(path, problem, "give one image, or a label map as the label")
    if name not in table.masks:
        problem = f"has no row for {name}, which is unlabelled then and not negative"
        raise InputError(path, problem, "list it under 'test' or without a label, or add its row")
    if name in table.contradictory:
        problem = f"says -1 (no pneumothorax) for {name} beside a mask"
        raise InputError(path, problem, "remove the row of -1 or the masks")
    mask = np.zeros((width, height), np.bool_)
    for text in table.masks[name]:
        try:
            mask |= decode_relative_run_lengths(text, (height, width)).T
        except InputError as error:
            raise InputError(f"{path}: {name}", f"run lengths {error.problem}", error.remedy) from error
    packed = mask.astype(np.uint8)[..., None]
    return NiftiVolume(packed, image.affine, image.spacing[:3], {}, str(path), oriented=image.oriented)


def labelled_images(path: str | Path) -> set[str]:
    """Names of the images that a table has rows for, positive or negative.

    Raises:
        InputError: see `PneumothoraxTable.read`.
    """
    return set(PneumothoraxTable.read(path).masks)


def unlisted_images(path: str | Path, images: Iterable[str | Path]) -> list[str]:
    """Names of the images that a table has rows for, but that are not among these files.

    Raises:
        InputError: see `PneumothoraxTable.read`.
    """
    listed = {_image_name(image) for image in images}
    return [name for name in PneumothoraxTable.read(path).masks if name not in listed]


def _image_name(path: str | Path) -> str:
    return Path(path).stem


def _names(path: Path) -> list[str]:
    return [name.strip().lower() for name in table_header(path)]


def _parse(path: Path) -> PneumothoraxTable:
    names = _names(path)
    if not set(_COLUMNS) <= set(names):
        problem = f"has the columns {', '.join(table_header(path)) or 'none'}, expected ImageId and EncodedPixels"
        raise InputError(path, problem, "give the table of masks, with commas between its fields")
    doubled = [name for name in _COLUMNS if names.count(name) > 1]
    if doubled:
        raise InputError(path, f"has two columns {doubled[0]}", "leave one of them")
    rows: dict[str, list[str]] = {}
    for line, (name, text) in table_rows(path, [names.index(column) for column in _COLUMNS]):
        if not name or not text:
            problem = f"line {line} has the image '{name}' and the run lengths '{text[:20]}'"
            raise InputError(path, problem, "name the image and give its run lengths, -1 for no pneumothorax")
        if (name.lower(), text.lower()) == _COLUMNS:
            raise InputError(path, f"line {line} has the names of the columns again", "remove the line")
        rows.setdefault(name, []).append(text)
    if not rows:
        raise InputError(path, "has no row", "give the table of masks")
    masks = {name: tuple(text for text in texts if text != _NONE) for name, texts in rows.items()}
    return PneumothoraxTable(
        str(path), masks, frozenset(name for name, texts in rows.items() if 0 < len(masks[name]) < len(texts))
    )


_tables = KeptTables(_parse)

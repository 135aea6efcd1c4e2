"""Values of tissue maps, and tables from the values that other tools write."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = [
    "CSF",
    "GREY_MATTER",
    "OUTSIDE",
    "TISSUE_NAMES",
    "TISSUE_TABLES",
    "WHITE_MATTER",
    "read_tissue_table",
    "relabel_tissue",
]

OUTSIDE, CSF, GREY_MATTER, WHITE_MATTER = 0, 1, 2, 3
TISSUE_NAMES: Mapping[int, str] = MappingProxyType(
    {OUTSIDE: "outside", CSF: "csf", GREY_MATTER: "grey_matter", WHITE_MATTER: "white_matter"}
)
"""Name of each value of a tissue map in mtmed; CSF is cerebrospinal fluid."""

_ROUNDING = 0.01  # of stored scale factors: 0.9999 is 1; a probability map has values further off

# FreeSurfer's colour table, left and right
_FREESURFER_CSF = (4, 43, 5, 44, 14, 15, 72, 24, 30, 62, 31, 63)
_FREESURFER_GREY = (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 80, 81, 82)
_FREESURFER_CORTEX = (*range(1000, 1036), *range(2000, 2036))
_FREESURFER_WHITE = (2, 41, 7, 46, 16, 28, 60, 77, 78, 79, 85, 192, *range(250, 256))
_FREESURFER_WHITE_PARCELS = (*range(3000, 3036), *range(4000, 4036), 5001, 5002)

TISSUE_TABLES: Mapping[str, Mapping[int, int]] = MappingProxyType(
    {
        "mtmed": {1: CSF, 2: GREY_MATTER, 3: WHITE_MATTER},
        "fast": {1: CSF, 2: GREY_MATTER, 3: WHITE_MATTER},
        "spm": {1: GREY_MATTER, 2: WHITE_MATTER, 3: CSF},
        "synthseg": {
            **dict.fromkeys(_FREESURFER_CSF, CSF),
            **dict.fromkeys(_FREESURFER_GREY + _FREESURFER_CORTEX, GREY_MATTER),
            **dict.fromkeys(_FREESURFER_WHITE + _FREESURFER_WHITE_PARCELS, WHITE_MATTER),
        },
    }
)
"""Named tables. 0 is outside in all of them.

- ``mtmed``: maps with mtmed's own values.
- ``fast``: FSL FAST's ``*_seg`` of a T1 in three classes (1 CSF, 2 grey, 3 white); CAT12's rounded ``p0`` likewise.
- ``spm``: one label map made of SPM's probability maps, the number of the largest of ``c1`` (grey), ``c2`` (white) and
  ``c3`` (CSF), 0 where their sum is below 0.5. SPM itself writes the probability maps, which are refused.
- ``synthseg``: numbers of FreeSurfer's colour table (SynthSeg, aseg, aparc+aseg, wmparc). Ventricles, choroid plexus,
  vessels and outer CSF are CSF. Cortex, deep grey nuclei, hippocampus, amygdala and cerebellar cortex are grey matter.
  Brain stem, ventral diencephalon, corpus callosum, fornix, optic chiasm and white-matter hypointensities (in multiple
  sclerosis the lesions) are white matter, as their T1 intensity and most of their volume are.
"""


def read_tissue_table(table: str | Mapping[int | str, int | str] | None) -> dict[int, int]:
    """Table from the values of a tissue map to those of mtmed.

    Args:
        table: name in `TISSUE_TABLES`, or value to value; values of mtmed may be given by name (`TISSUE_NAMES`) and
            keys as text, as JSON has them. None stands for ``"mtmed"``.

    Raises:
        InputError: unknown name, a key that is no whole number, a value that is no tissue, or 0 moved from outside.
    """
    table = "mtmed" if table is None else table
    if isinstance(table, str):
        if table not in TISSUE_TABLES:
            names = ", ".join(TISSUE_TABLES)
            raise InputError("tissue table", f"is {table!r}, known are {names}", "name one, or give a table of values")
        return dict(TISSUE_TABLES[table])
    by_name = {name: value for value, name in TISSUE_NAMES.items()}
    read: dict[int, int] = {}
    for key, tissue in table.items():
        try:
            value = int(key)
        except ValueError as error:
            problem = f"has the key {key!r}, which is no whole number"
            raise InputError("tissue table", problem, "give the values of the tissue map as keys") from error
        found = by_name.get(tissue.lower(), tissue) if isinstance(tissue, str) else tissue
        if str(found) not in map(str, TISSUE_NAMES):
            allowed = ", ".join(f"{v} ({name})" for v, name in TISSUE_NAMES.items())
            raise InputError("tissue table", f"maps {key} to {tissue!r}, allowed are {allowed}", "correct the table")
        read[value] = int(found)
    if read.get(OUTSIDE, OUTSIDE) != OUTSIDE:
        raise InputError("tissue table", "maps 0 to a tissue; 0 is always outside", "leave 0 out")
    if not any(read.values()):
        raise InputError("tissue table", "names no tissue", "give {1: csf, 2: grey_matter, 3: white_matter}")
    return read


def relabel_tissue(values: NDArray[Any], table: Mapping[int, int], *, name: object = "tissue map") -> NDArray[np.uint8]:
    """Tissue map in mtmed's values.

    Args:
        values: map of any shape in another tool's values, whole numbers up to rounding of 0.01.
        table: see `read_tissue_table`; 0 stays 0.
        name: what errors call the map.

    Raises:
        InputError: the map holds fractions, or values that the table does not have (they are named), or no tissue.
    """
    found, place = np.unique(values, return_inverse=True)
    whole = np.rint(found)
    if not np.isfinite(found).all() or np.abs(found - whole).max() > _ROUNDING:
        off = found[~(np.abs(found - whole) <= _ROUNDING)]
        problem = f"holds values such as {off[0]:.4g}, so that it is no label map"
        remedy = "of probability maps take the number of the largest (SPM: 1 grey, 2 white, 3 CSF, table 'spm')"
        raise InputError(name, problem, remedy)
    unknown = [int(value) for value in whole if value != OUTSIDE and int(value) not in table]
    if unknown:
        listed = ", ".join(map(str, unknown[:12])) + (f" and {len(unknown) - 12} more" if len(unknown) > 12 else "")
        raise InputError(name, f"holds the values {listed}, which the tissue table does not have", "add them to it")
    relabelled = np.array([table.get(int(value), OUTSIDE) for value in whole], np.uint8)
    if not relabelled.any():
        raise InputError(name, "holds no tissue", "check the file; 0 is outside")
    return relabelled[place].reshape(values.shape)

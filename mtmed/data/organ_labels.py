"""Values of label files turned into packed masks: bit k for organ k, in all data sets the same."""

from collections.abc import Sequence

from mtmed.data.label_names import organs_of_values
from mtmed.data.manifest import Cohort, Manifest
from mtmed.errors import InputError
from mtmed.organ_masks import organ_values

__all__ = ["organ_bits", "values_of_organs"]


def organ_bits(cohort: Cohort, organs: Sequence[str]) -> dict[str, dict[int, int]]:
    """Say which value of each data set's label files is which value of a packed map (`mtmed.organ_masks`).

    Where labels exclude each other, the value of organ k becomes ``1 << k``, and a value that several organs have
    (``"liver + tumour"``) the sum of theirs. Where masks may overlap, each value of the
    file is a sum of bits, and each such sum becomes the sum of the organs' bits in the order of ``organs``. What
    belongs to none of ``organs`` becomes background.

    Args:
        cohort: the data sets with the names of their label values.
        organs: names of the organs in the order of the bits, for example `Cohort.organs`.

    Returns:
        For each data set, value of the file to packed value; for `mtmed.transforms.GroupLabelsd`.

    Raises:
        InputError: an organ is named twice, there are none or more than eight, or a data set lacks one; or as
            `mtmed.data.label_names.organs_of_values`.
    """
    organ_values(organs)
    return {manifest.name: _values(manifest, organs) for manifest in cohort.manifests}


def values_of_organs(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """All values that a voxel of each organ may have in the label files of a data set.

    Where masks may overlap, these are all sums with the organ's bit. Where labels exclude each other, they are the
    organ's own value and those whose name joins it with others, ``"liver + tumour"``.

    Raises:
        InputError: see `mtmed.data.label_names.organs_of_values`.
    """
    organs = organs_of_values(manifest.label_names, f"data set {manifest.name}")
    legal = list(organs)
    if manifest.overlapping:
        every = sum(organs)
        legal = [value for value in range(1, every + 1) if not value & ~every]
    found: dict[str, tuple[int, ...]] = {name: () for names in organs.values() for name in names if len(names) == 1}
    for value in legal:
        own = [names for one, names in organs.items() if (value & one if manifest.overlapping else value == one)]
        for name in dict.fromkeys(name for names in own for name in names):
            found[name] += (value,)
    return found


def _values(manifest: Manifest, organs: Sequence[str]) -> dict[int, int]:
    values = values_of_organs(manifest)
    missing = [name for name in organs if name not in values]
    if missing:
        remedy = f"use organs that it has: {', '.join(values) or 'none'}"
        raise InputError(f"data set {manifest.name}", f"has no label '{missing[0]}'", remedy)
    packed: dict[int, int] = {}
    for k, name in enumerate(organs):
        for value in values[name]:
            packed[value] = packed.get(value, 0) | 1 << k
    return packed

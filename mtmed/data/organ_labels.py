"""Values of label files turned into packed masks: bit k for organ k, in all data sets the same."""

from collections.abc import Sequence

from mtmed.data.manifest import Cohort, Manifest
from mtmed.errors import InputError
from mtmed.organ_masks import organ_values

__all__ = ["organ_bits"]


def organ_bits(cohort: Cohort, organs: Sequence[str]) -> dict[str, dict[int, int]]:
    """Say which value of each data set's label files is which value of a packed map (`mtmed.organ_masks`).

    Where labels exclude each other, the value of organ k becomes ``1 << k``. Where masks may overlap, each value of the
    file is a sum of bits, and each such sum becomes the sum of the organs' bits in the order of ``organs``. What
    belongs to none of ``organs`` becomes background.

    Args:
        cohort: the data sets with the names of their label values.
        organs: names of the organs in the order of the bits, for example `Cohort.organs`.

    Returns:
        For each data set, value of the file to packed value; for `mtmed.transforms.GroupLabelsd`.

    Raises:
        InputError: an organ is named twice, there are none or more than eight, or a data set lacks one.
    """
    organ_values(organs)
    return {manifest.name: _values(manifest, organs) for manifest in cohort.manifests}


def _values(manifest: Manifest, organs: Sequence[str]) -> dict[int, int]:
    values = {name: value for value, name in manifest.label_names.items() if value}
    missing = [name for name in organs if name not in values]
    if missing:
        remedy = f"use organs that it has: {', '.join(values) or 'none'}"
        raise InputError(f"data set {manifest.name}", f"has no label '{missing[0]}'", remedy)
    bits = {values[name]: 1 << k for k, name in enumerate(organs)}
    if not manifest.overlapping:
        return bits
    every = sum(values.values())
    legal = (value for value in range(1, every + 1) if not value & ~every)
    packed = {value: sum(bit for own, bit in bits.items() if value & own) for value in legal}
    return {value: bit for value, bit in packed.items() if bit}

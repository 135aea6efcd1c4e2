"""What the values of a data set's label files mean."""

from collections.abc import Mapping

from mtmed.errors import InputError
from mtmed.organ_masks import JOINT, MOST_ORGANS

__all__ = ["organ_names", "organs_of_values", "parse_label_names", "parse_overlapping"]

_DIGITS = 18  # of a value that 64 bits hold


def parse_label_names(labels: object, culprit: object, *, overlapping: bool = False) -> dict[int, str]:
    """Turn ``{"0": "background", "1": "liver"}`` into numbers and names.

    Args:
        labels: what the file says.
        culprit: file, for messages.
        overlapping: the label files are packed masks (`mtmed.organ_masks`): each value but 0 is the bit of one organ,
            and any sum of them may stand in a file.

    Raises:
        InputError: naming ``culprit`` unless the keys are whole numbers with 0 among them and the names differ, or if
            masks may overlap and a value is not one of 1, 2, 4, ... 128.
    """
    remedy = 'write {"0": "background", "1": "name", ...}, each name once'
    if not isinstance(labels, dict):
        raise InputError(culprit, f"'labels' is {labels!r}", remedy)
    numbered = all(str(key).isdecimal() and len(str(key)) <= _DIGITS for key in labels)
    if not numbered or not all(isinstance(name, str) and name for name in labels.values()):
        raise InputError(culprit, f"'labels' is {labels!r}, not whole numbers with names", remedy)
    names = {int(key): name for key, name in labels.items()}
    if 0 not in names or len(set(names.values())) < len(labels):
        raise InputError(culprit, f"'labels' lacks 0 or has a number or name twice: {labels!r}", remedy)
    bits = [1 << place for place in range(MOST_ORGANS)]
    odd = [value for value in names if value and value not in bits]
    if overlapping and odd:
        problem = f"'labels' has the value {odd[0]}, which is no bit, though 'overlapping' is true"
        raise InputError(culprit, problem, f"number the organs {', '.join(map(str, bits))}, or take 'overlapping' out")
    return dict(sorted(names.items()))


def parse_overlapping(value: object, culprit: object) -> bool:
    """Read the key ``overlapping``; what is not stated is False.

    Raises:
        InputError: naming ``culprit`` if it is neither true nor false.
    """
    if value is not None and not isinstance(value, bool):
        raise InputError(culprit, f"'overlapping' is {value!r}", "write true if the label files are packed masks")
    return bool(value)


def organs_of_values(label_names: Mapping[int, str], culprit: object) -> dict[int, tuple[str, ...]]:
    """Organs that a voxel of each value belongs to; the background is left out.

    A name joined as in `mtmed.organ_masks.packed_names`, ``"liver + tumour"``, says that the voxel belongs to both.

    Args:
        label_names: name of each value.
        culprit: data set, for messages.

    Raises:
        InputError: naming ``culprit`` if a joined name has a part that is no organ of its own, or has one twice.
    """
    parts = {value: tuple(name.split(JOINT)) for value, name in sorted(label_names.items()) if value}
    single = {names[0] for names in parts.values() if len(names) == 1}
    for value, names in parts.items():
        odd = [name for name in names if name not in single or names.count(name) > 1]
        if odd:
            problem = f"label {value} '{label_names[value]}' joins '{odd[0]}', which is no label of its own"
            if odd[0] in single:
                problem = f"label {value} '{label_names[value]}' joins '{odd[0]}' with itself"
            raise InputError(culprit, problem, f"join the names of organs in 'labels', or write no '{JOINT}' in a name")
    return parts


def organ_names(label_names: Mapping[int, str], culprit: object) -> list[str]:
    """Names of all values but the background and those that several organs have, in order of value.

    Raises:
        InputError: see `organs_of_values`.
    """
    return [names[0] for names in organs_of_values(label_names, culprit).values() if len(names) == 1]

"""Where the axes of an array point: three letters, as nibabel and MONAI write them.

The n-th letter says where axis n grows to: R right, L left, A anterior, P posterior, S superior, I inferior. In
``"IPL"`` the first axis runs from head to feet (slices first), the second from front to back, the third to the
patient's left.
"""

from mtmed.errors import InputError

__all__ = ["parse_orientation"]

_AXES = ("LR", "PA", "IS")


def parse_orientation(value: object, culprit: object) -> str | None:
    """Check the value of a key ``orientation``.

    Args:
        value: three letters; None: not known.
        culprit: the file, for messages.

    Raises:
        InputError: unless there is one letter for each of left-right, posterior-anterior, inferior-superior.
    """
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or len(value) != 3
        or any(sum(letter in pair for letter in value) != 1 for pair in _AXES)
    ):
        remedy = 'give where its three axes grow to, one letter each of LR, PA, IS, such as "RAS" or "IPL"'
        raise InputError(culprit, f"'orientation' is {value!r}", remedy)
    return value

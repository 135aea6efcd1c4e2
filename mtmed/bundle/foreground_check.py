"""Whether the best model can be chosen on a part, said before the training instead of after it."""

from collections.abc import Sequence

from mtmed.data import Volumes
from mtmed.errors import InputError
from mtmed.organ_masks import organ_values

__all__ = ["require_foreground"]


def require_foreground(volumes: Volumes, organs: Sequence[str], *, part: str = "validation") -> None:
    """Refuse a part in which an organ never occurs: whatever is predicted, its Dice says nothing of the network.

    Args:
        volumes: volumes of the part, whose labels are packed maps (`mtmed.organ_masks`); none pass.
        organs: names of the organs, in the order of their bits.
        part: name of the part, for the message.

    Raises:
        InputError: naming the organs that no case has; or there is no organ or more than eight.
    """
    lacking = [
        name
        for name, values in organ_values(organs).items()
        if not any(volumes.having("label", value) for value in values)
    ]
    if len(volumes) and lacking:
        cases = f"none of its {len(volumes)} cases has" if len(volumes) > 1 else "its only case lacks"
        problem = f"is all-negative: {cases} {' or '.join(lacking)}, and nothing could be chosen by Dice"
        remedy = f"choose another fold, give {part} a larger share, or add cases with {' or '.join(lacking)}"
        raise InputError(part, problem, remedy)

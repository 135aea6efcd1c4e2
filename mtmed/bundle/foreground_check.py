"""Whether a part shows the organs at all, said before the training instead of after it."""

import logging
from collections.abc import Sequence

from mtmed.data import Volumes
from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.organ_masks import organ_values

__all__ = ["notice_lacking_foreground", "require_foreground", "require_reference"]

logger = logging.getLogger(__name__)


def require_foreground(volumes: Volumes, organs: Sequence[str], *, part: str = "validation") -> None:
    """Refuse a part in which an organ never occurs: whatever is predicted, its Dice says nothing of the network.

    Args:
        volumes: volumes of the part, whose labels are packed maps (`mtmed.organ_masks`); none pass.
        organs: names of the organs, in the order of their bits.
        part: name of the part, for the message.

    Raises:
        InputError: naming the organs that no case has; or there is no organ or more than eight.
    """
    lacking = _lacking(volumes, organs)
    if len(volumes) and lacking:
        cases = f"none of its {len(volumes)} cases has" if len(volumes) > 1 else "its only case lacks"
        problem = f"is all-negative: {cases} {' or '.join(lacking)}, and nothing could be chosen by Dice"
        remedy = f"choose another fold, give {part} a larger share, or add cases with {' or '.join(lacking)}"
        raise InputError(part, problem, remedy)


def require_reference(volumes: Volumes, *, part: str = "validation") -> None:
    """Refuse a part without any foreground, in which no epoch is better than another.

    Args:
        volumes: volumes of the part; none pass.
        part: name of the part, for the message.

    Raises:
        InputError: no voxel of any of the volumes has a label above 0.
    """
    if len(volumes) and not volumes.having("label"):
        where = f"any of its {len(volumes)} cases" if len(volumes) > 1 else "its only case"
        problem = f"has no reference foreground in {where}, so that no epoch could be chosen"
        raise InputError(part, problem, "choose another fold or fewer folds, or correct the labels")


def notice_lacking_foreground(volumes: Volumes, organs: Sequence[str], *, part: str = "training") -> None:
    """Say so if an organ never occurs in a part, of which a network learns that there is none.

    Args:
        volumes: volumes of the part, as for `require_foreground`; those without a label do not count.
        organs: names of the organs, in the order of their bits.
        part: name of the part, for the message.

    Raises:
        InputError: if there is no organ or more than eight.
    """
    lacking = _lacking(volumes, organs)
    labelled = sum(volume.case.label is not None for volume in volumes)
    if lacking and rank() == 0:
        cases = f"none of its {labelled} labelled cases has" if labelled != 1 else "its only labelled case lacks"
        logger.info("Notice: %s: %s %s, which cannot be learnt from them", part, cases, " or ".join(lacking))


def _lacking(volumes: Volumes, organs: Sequence[str]) -> list[str]:
    """Organs that no volume shows."""
    return [
        name
        for name, values in organ_values(organs).items()
        if not any(volumes.having("label", value) for value in values)
    ]

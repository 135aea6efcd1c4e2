"""Masks of organs for tasks whose target is made of the label."""

from torch import Tensor

from mtmed.errors import InputError
from mtmed.organ_masks import unpack_masks
from mtmed.tasks.task import View

__all__ = ["label_masks"]


def label_masks(name: str, view: View, organs: int, *, overlapping: bool) -> Tensor:
    """One mask per organ of a view's label.

    Args:
        name: of the view, for the message.
        view: its ``label`` is B 1 H W [D].
        organs: how many organs there are.
        overlapping: the label is packed masks (see `mtmed.organ_masks`), else its values are exclusive and organ k has
            the value k + 1.

    Returns:
        bool, B organs H W [D].

    Raises:
        InputError: if the view has no label.
    """
    if "label" not in view:
        problem = "has no label, of which the target would be made: the task needs labels"
        raise InputError(f"view {name}", problem, "draw labelled images, or use rotation, which needs none")
    label = view["label"]
    if overlapping:
        return unpack_masks(label, organs, axis=1).bool()
    values = label.new_tensor(range(1, organs + 1)).view(-1, *[1] * (label.dim() - 2))
    return label == values

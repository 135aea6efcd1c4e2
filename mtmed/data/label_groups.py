"""Labels of several data sets merged into common groups by their names."""

from collections.abc import Mapping, Sequence

from mtmed.data.manifest import Cohort, Manifest
from mtmed.errors import InputError

__all__ = ["group_labels", "group_names"]


def group_labels(cohort: Cohort, groups: Mapping[str, Sequence[str]]) -> dict[str, dict[int, int]]:
    """Say which value of each data set's label files belongs to which group.

    The groups' values count from 1 in the order of ``groups``; label values in none of them become background. Upper
    and lower case are the same. A group may name what only some of the data sets have, for example
    ``{"kidney": ["kidney", "tumour", "tumor"]}``.

    Args:
        cohort: the data sets with the names of their label values.
        groups: name of each group and names of the labels that belong to it.

    Returns:
        For each data set, label value to the group's value; for `mtmed.transforms.GroupLabelsd`.

    Raises:
        InputError: no group is given, a group lists no name, a name is in two groups, or a data set has no label of a
            group.
    """
    owners = _owners(groups)
    return {manifest.name: _values(manifest, groups, owners) for manifest in cohort.manifests}


def group_names(groups: Mapping[str, Sequence[str]]) -> dict[int, str]:
    """Name of each value that `group_labels` gives: 0 is the background."""
    return dict(enumerate(["background", *groups]))


def _owners(groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Value of the group of each label name."""
    if not groups:
        raise InputError("label_groups", "is empty", 'name at least one group, for example {"kidney": ["kidney"]}')
    owners: dict[str, int] = {}
    for value, (group, names) in enumerate(groups.items(), start=1):
        if isinstance(names, str) or not names:
            raise InputError("label_groups", f"{group!r} is {names!r}", 'list label names, for example ["kidney"]')
        for name in names:
            if owners.setdefault(name.casefold(), value) != value:
                other = list(groups)[owners[name.casefold()] - 1]
                raise InputError("label_groups", f"{name!r} is in {other!r} and in {group!r}", "leave one out")
    return owners


def _values(manifest: Manifest, groups: Mapping[str, Sequence[str]], owners: Mapping[str, int]) -> dict[int, int]:
    names = {value: name for value, name in manifest.label_names.items() if value > 0}
    values = {value: owners[name.casefold()] for value, name in names.items() if name.casefold() in owners}
    for number, group in enumerate(groups, start=1):
        if number not in values.values():
            problem = f"has none of the labels of the group {group!r} ({', '.join(groups[group])})"
            has = ", ".join(repr(name) for name in names.values()) or "no label"
            raise InputError(f"data set {manifest.name}", problem, f"add one of its own to label_groups: {has}")
    return values

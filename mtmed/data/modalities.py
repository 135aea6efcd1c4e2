"""Which modalities a network takes, in which order, and what happens to a case that lacks one."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from mtmed.data.case import Case
from mtmed.data.manifest import Cohort, Manifest
from mtmed.errors import InputError

__all__ = ["select_modalities"]


def select_modalities(
    cohort: Cohort, names: Sequence[str], *, allow_missing: bool = False, test_cases: bool = True
) -> Cohort:
    """Reduce every case to some modalities, in this order.

    Names are compared without case. A data set that lacks a name which another one has lacks it in all of its cases.
    A case keeps the grid of its first image that is there.

    Args:
        cohort: data sets with their own lists of modalities.
        names: modalities of the network, first the one whose grid is the case's, for example ``["FLAIR", "T1"]``.
        allow_missing: keep a case that lacks some of them, with None in their place.
        test_cases: whether the cohort keeps its test cases, which then must have the modalities too.

    Returns:
        The same data sets and cases, all with the modalities ``names``.

    Raises:
        InputError: if ``names`` is empty or names a modality twice or one that no data set has; if a case has none of
            them, or lacks one although ``allow_missing`` is false; or if one file holds all modalities of a case and
            others than all of them are asked for.
    """
    if isinstance(names, str) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError("modalities", f"is {names!r}", 'give a list of names: ["FLAIR", "T1"]')
    keys = [name.casefold() for name in names]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise InputError("modalities", f"names '{names[index]}' twice", "name each modality once")
    known = {name.casefold(): name for manifest in cohort.manifests for name in manifest.modalities}
    for name in names:
        if name.casefold() not in known:
            close = get_close_matches(name.casefold(), known, n=1)
            mean = f"did you mean '{known[close[0]]}'?" if close else f"choose from {', '.join(known.values())}"
            raise InputError(", ".join(cohort.datasets), f"has no modality '{name}'", mean)
    manifests = cohort.manifests if test_cases else [replace(one, test_cases=()) for one in cohort.manifests]
    return Cohort(tuple(_select(manifest, names, allow_missing) for manifest in manifests))


def _select(manifest: Manifest, names: Sequence[str], allow_missing: bool) -> Manifest:
    own = [name.casefold() for name in manifest.modalities]
    wanted = [name.casefold() for name in names]
    places = [own.index(key) if key in own else None for key in wanted]

    def select(case: Case) -> Case:
        if len(case.image) < len(own):
            if wanted != own:
                problem = f"has {', '.join(manifest.modalities)} in one file"
                raise InputError(case.key, problem, f"write a file for each, or use the modalities {list(own)}")
            return case
        image = tuple(None if place is None else case.image[place] for place in places)
        missing = [name for name, path in zip(names, image, strict=True) if path is None]
        if len(missing) == len(names):
            raise InputError(case.key, f"has none of {', '.join(names)}", "leave the case out")
        if missing and not allow_missing:
            remedy = f"pass --allow_missing true, or leave {missing[0]} out of 'modalities'"
            raise InputError(case.key, f"has no {', no '.join(missing)}", remedy)
        return replace(case, image=image)

    return replace(
        manifest,
        modalities=tuple(names),
        cases=tuple(map(select, manifest.cases)),
        test_cases=tuple(map(select, manifest.test_cases)),
    )

"""Label maps of several raters."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from mtmed.errors import InputError

__all__ = ["SplitRatersd"]


class SplitRatersd(MapTransform):
    """Give each rater's label map its own entry: ``label``, ``label_2``, ``label_3``, ...

    A case that fewer raters labelled repeats its maps in turn, so that all cases have the same entries. Without a label
    nothing happens.

    Args:
        keys: the entry with one channel per rater, as `mtmed.transforms.LoadVolumed` loads a list of paths.
        count: number of raters of the cohort.
        rater: the one rater who is kept, from 1; None for all.

    Raises:
        InputError: if the case has no such rater, or more than `count`.
    """

    def __init__(
        self, keys: KeysCollection, *, count: int, rater: int | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if rater is not None and not 1 <= rater <= count:
            raise InputError("rater", f"is {rater}, the cohort has {count}", f"choose 1 to {count}, or all of them")
        self.count = count
        self.rater = rater

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Split the channels of each entry."""
        result = dict(data)
        for key in self.key_iterator(result):
            maps = result[key]
            if len(maps) > self.count or (self.rater is not None and self.rater > len(maps)):
                culprit = str(maps.meta.get("filename_or_obj", key)) if hasattr(maps, "meta") else str(key)
                problem = f"has the labels of {len(maps)} raters, wanted {self.rater or f'up to {self.count}'}"
                raise InputError(culprit, problem, "choose another rater, or leave the case out")
            if self.rater is not None:
                result[key] = maps[self.rater - 1 : self.rater]
                continue
            for number in range(self.count):
                place = number % len(maps)
                name = key if number == 0 else f"{key}_{number + 1}"
                result[name] = maps[place : place + 1]
        return result

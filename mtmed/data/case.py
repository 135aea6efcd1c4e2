"""One row of a datalist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """One examination: its images, its label and whose it is.

    Attributes:
        id: unique within its data set.
        image: absolute path of each channel, in the order of the manifest's modalities.
        label: absolute path of the label map, None if unlabelled.
        group: the patient; the unit of splitting.
        dataset: name of the data set, which decides what the label values mean.
        visit: examination of the patient (day, time point), if the data set has several.
        slice: slice number, for data sets of 2D slices.
        fold: fold assigned by the data set's authors, if any.
        metadata: anything else the manifest says of the case (numbers for FiLM, site, scanner).
    """

    id: str
    image: tuple[str, ...]
    label: str | None
    group: str
    dataset: str
    visit: str | None = None
    slice: int | None = None
    fold: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name that is unique over data sets: ``dataset/id``."""
        return f"{self.dataset}/{self.id}"

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
        image: absolute path of each channel, in the order of the manifest's modalities; None for a modality that the
            case lacks. A folder is a stack of slices.
        label: absolute path of the label map, None if unlabelled; the first rater's, if several drew one. A table of
            masks is shared by the cases it has rows of.
        group: the patient; the unit of splitting.
        dataset: name of the data set, which decides what the label values mean.
        visit: examination of the patient (day, time point), if the data set has several.
        slice: slice number, for data sets of 2D slices.
        fold: fold assigned by the data set's authors, if any.
        part: ``training``, ``validation`` or ``test`` if the manifest assigns it.
        part_key: what the manifest says that its parts share nothing of, see `mtmed.data.parts`.
        metadata: anything else the manifest says of the case (numbers for FiLM, site, scanner).
        raters: absolute paths of the label maps of further raters.
        maps: absolute paths of further voxel maps on the image's grid by name, for example ``tissue``.
    """

    id: str
    image: tuple[str | None, ...]
    label: str | None
    group: str
    dataset: str
    visit: str | None = None
    slice: int | None = None
    fold: int | None = None
    part: str | None = None
    part_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    raters: tuple[str, ...] = ()
    maps: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name that is unique over data sets: ``dataset/id``."""
        return f"{self.dataset}/{self.id}"

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the modalities that the case has; the first one is the case's grid."""
        return tuple(path for path in self.image if path is not None)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label maps of all raters, none if unlabelled."""
        return () if self.label is None else (self.label, *self.raters)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the case."""
        return (*self.images, *self.labels, *self.maps.values())

"""Where the files of a public data set are, as data: a JSON file per data set instead of a script per data set.

A layout turns a downloaded folder without a ``dataset.json`` into a manifest:

==================  ================================================================================================
key                 meaning
==================  ================================================================================================
``name``            name of the data set
``title``           its full name
``modalities``      list of image channels, for example ``["CT"]``; the first one decides which cases there are
``labels``          name of each label value, ``{"0": "background", ...}``
``overlapping``     true if masks may overlap: label files are packed masks (`mtmed.organ_masks`), ``labels`` names
                    their bits 1, 2, 4, ...; optional
``image``           template of the images; a list has one template per modality; a case may lack all but the first
``label``           template of the label maps, paired with the images by the fields that both have; a list has one
                    template per rater, of which a case needs at least one; a template without fields is one file
                    for all cases, a table of masks; X-rays that theirs has no row for are unlabelled
``maps``            templates of further voxel maps on the image's grid by name, ``{"brain_mask": ...}``; optional,
                    and each map is optional for each case
``test_image``      template (or list) of images that come without labels; optional
``id``              template of the case's name, filled from the fields of ``image``; optional, default ``{case}``
``patient``         template of the patient, filled likewise: how the patient is read from the path
``visit``           template of the examination (day, time point), filled likewise; optional, default the field
                    ``visit``
``exclude``         ids that are left out, each with the reason
``suspects``        ids of cases that may be mislabelled, each with what is known of it; they are left out only if asked
``orientation``     where the axes of its arrays are known to grow to, ``"IPL"`` for example: `mtmed.data.orientation`
``expected_cases``  number of labelled cases in the complete data set
``licence``         terms of use
``source``          where to get the data
``reference``       where they are described
``notes``           what a user should know: axes, orientation, traps
==================  ================================================================================================

Templates describe paths below the data set's folder, with ``/`` on every system: `mtmed.data.template`.
The fields ``visit`` and ``slice`` become those of the case, fields of other names than these, ``case`` and ``patient``
its metadata, plain numbers as numbers. A template of images that ends in ``/`` matches folders, each one image made of
its slices. Files whose name starts with a dot are not seen. A modality for which there is no file at all is left out
of the manifest.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtmed.data.label_names import parse_label_names, parse_overlapping
from mtmed.data.orientation import parse_orientation
from mtmed.data.rows import RESERVED_MAPS
from mtmed.data.template import Template
from mtmed.errors import InputError

__all__ = ["Layout", "known_layouts", "read_layout"]

_REQUIRED = {
    "name": str,
    "title": str,
    "modalities": list,
    "labels": dict,
    "image": (str, list),
    "label": (str, list),
    "patient": str,
    "licence": str,
    "source": str,
    "reference": str,
}
_OPTIONAL = {
    "test_image": (str, list),
    "maps": dict,
    "id": str,
    "visit": str,
    "overlapping": bool,
    "exclude": dict,
    "suspects": dict,
    "orientation": str,
    "expected_cases": int,
    "notes": str,
}


@dataclass(frozen=True)
class Layout:
    """Description of a public data set; see the module's text for the meaning of each attribute.

    Raises:
        InputError: if there is no template for a modality or for the label, if a template has a field that the first
            image template has not, or if a map has a name that is taken.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    label_names: Mapping[int, str]
    image: tuple[Template, ...]
    label: tuple[Template, ...]
    patient: Template
    visit: Template | None
    id: Template
    test_image: tuple[Template, ...]
    maps: Mapping[str, Template]
    overlapping: bool
    exclude: Mapping[str, str]
    suspects: Mapping[str, str]
    orientation: str | None
    expected_cases: int | None
    licence: str
    source: str
    reference: str
    notes: str

    def __post_init__(self) -> None:
        if not self.label:
            raise InputError(f"layout {self.name}", "has no label template", "give one, or one per rater")
        reserved = sorted(set(self.maps) & set(RESERVED_MAPS))
        if reserved:
            problem = f"'maps' has the name '{reserved[0]}', which is taken"
            raise InputError(f"layout {self.name}", problem, "give the map another name")
        for images in (self.image, self.test_image) if self.test_image else (self.image,):
            if not images or len(images) != len(self.modalities):
                problem = f"has {len(images)} image templates for {len(self.modalities)} modalities"
                raise InputError(f"layout {self.name}", problem, "give one template per modality")
            companions = (*self.label, *self.maps.values()) if images is self.image else ()
            visit = () if self.visit is None else (self.visit,)
            checked = (*images[1:], self.id, self.patient, *visit, *companions)
            for template in checked:
                unknown = sorted(template.fields - images[0].fields)
                if unknown:
                    problem = f"'{template}' has the field '{unknown[0]}', which '{images[0]}' has not"
                    raise InputError(f"layout {self.name}", problem, "use only the fields of the first image template")


def known_layouts() -> dict[str, Path]:
    """Names of the layouts at hand and their files.

    They lie in ``data_manifests`` of the current folder, which goes first, and of the checkout that mtmed runs from.
    """
    folders = (Path(__file__).parents[2] / "data_manifests", Path.cwd() / "data_manifests")
    found = {file.stem: file for folder in folders for file in sorted(folder.glob("*.json"))}
    return dict(sorted(found.items()))


def read_layout(name_or_path: str | os.PathLike[str]) -> Layout:
    """Read a layout.

    Args:
        name_or_path: name of a known layout, or path of a JSON file.

    Raises:
        InputError: if there is none, or if the file is not a layout.
    """
    known = known_layouts()
    file = known.get(str(name_or_path), Path(name_or_path).expanduser())
    if not file.is_file():
        close = get_close_matches(str(name_or_path), known, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(known)}, or a path"
        raise InputError(name_or_path, "is neither a known layout nor a file", remedy)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(file, f"cannot be read as JSON ({error})", "correct the file") from None
    if not isinstance(content, dict):
        raise InputError(file, "is not an object", "see the keys in mtmed.data.layout_file")
    kinds: dict[str, Any] = _REQUIRED | _OPTIONAL
    for key in (*_REQUIRED, *content):
        if key not in content:
            raise InputError(file, f"lacks the key '{key}'", f"a layout has {', '.join(_REQUIRED)}")
        if key not in kinds:
            raise InputError(file, f"has the unknown key '{key}'", f"use {', '.join(kinds)}")
        if not isinstance(content[key], kinds[key]):
            raise InputError(file, f"'{key}' is {content[key]!r}", "see the keys in mtmed.data.layout_file")

    def templates(key: str) -> tuple[Template, ...]:
        value = content.get(key, [])
        return tuple(Template(str(item)) for item in ([value] if isinstance(value, str) else value))

    overlapping = parse_overlapping(content.get("overlapping"), file)
    return Layout(
        name=content["name"],
        title=content["title"],
        modalities=tuple(map(str, content["modalities"])),
        label_names=parse_label_names(content["labels"], file, overlapping=overlapping),
        image=templates("image"),
        label=templates("label"),
        patient=Template(content["patient"]),
        visit=Template(content["visit"]) if "visit" in content else None,
        id=Template(content.get("id", "{case}")),
        test_image=templates("test_image"),
        maps={str(name): Template(str(text)) for name, text in content.get("maps", {}).items()},
        overlapping=overlapping,
        exclude={str(key): str(reason) for key, reason in content.get("exclude", {}).items()},
        suspects={str(key): str(reason) for key, reason in content.get("suspects", {}).items()},
        orientation=parse_orientation(content.get("orientation"), file),
        expected_cases=content.get("expected_cases"),
        licence=content["licence"],
        source=content["source"],
        reference=content["reference"],
        notes=content.get("notes", ""),
    )

"""Where the files of a public data set are, as data: a JSON file per data set instead of a script per data set.

A layout turns a downloaded folder without a ``dataset.json`` into a manifest:

==================  ================================================================================================
key                 meaning
==================  ================================================================================================
``name``            name of the data set
``title``           its full name
``modalities``      list of image channels, for example ``["CT"]``
``labels``          name of each label value, ``{"0": "background", ...}``
``image``           template of the images; a list has one template per modality
``label``           template of the label maps, paired with the images by the fields that both have
``test_image``      template (or list) of images that come without labels; optional
``id``              template of the case's name, filled from the fields of ``image``; optional, default ``{case}``
``patient``         template of the patient, filled likewise: how the patient is read from the path
``exclude``         ids that are left out, each with the reason
``expected_cases``  number of labelled cases in the complete data set
``licence``         terms of use
``source``          where to get the data
``reference``       where they are described
``notes``           what a user should know: axes, orientation, traps
==================  ================================================================================================

Templates describe paths below the data set's folder, with ``/`` on every system: `mtmed.data.template`.
The fields ``visit`` and ``slice`` become those of the case, fields of other names than these, ``case`` and ``patient``
its metadata. Files whose name starts with a dot are not seen.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtmed.data.case import Case
from mtmed.data.manifest import Manifest, parse_label_names
from mtmed.data.template import Fields, Key, Template, find_files, list_files
from mtmed.errors import InputError

__all__ = ["Layout", "LayoutMatch", "apply_layout", "known_layouts", "match_layout", "read_layout"]

logger = logging.getLogger(__name__)

_REQUIRED = {
    "name": str,
    "title": str,
    "modalities": list,
    "labels": dict,
    "image": (str, list),
    "label": str,
    "patient": str,
    "licence": str,
    "source": str,
    "reference": str,
}
_OPTIONAL = {"test_image": (str, list), "id": str, "exclude": dict, "expected_cases": int, "notes": str}
_CASE_FIELDS = ("case", "patient", "visit", "slice")


@dataclass(frozen=True)
class Layout:
    """Description of a public data set; see the module's text for the meaning of each attribute.

    Raises:
        InputError: if a template has a field that the first image template has not.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    label_names: Mapping[int, str]
    image: tuple[Template, ...]
    label: Template
    patient: Template
    id: Template
    test_image: tuple[Template, ...]
    exclude: Mapping[str, str]
    expected_cases: int | None
    licence: str
    source: str
    reference: str
    notes: str

    def __post_init__(self) -> None:
        for images in (self.image, self.test_image) if self.test_image else (self.image,):
            if not images or len(images) != len(self.modalities):
                problem = f"has {len(images)} image templates for {len(self.modalities)} modalities"
                raise InputError(f"layout {self.name}", problem, "give one template per modality")
            checked = (*images[1:], self.id, self.patient, *((self.label,) if images is self.image else ()))
            for template in checked:
                unknown = sorted(template.fields - images[0].fields)
                if unknown:
                    problem = f"'{template}' has the field '{unknown[0]}', which '{images[0]}' has not"
                    raise InputError(f"layout {self.name}", problem, "use only the fields of the first image template")


@dataclass(frozen=True)
class LayoutMatch:
    """A layout applied to a folder.

    Attributes:
        manifest: the cases found; images without a label are test cases.
        unlabelled: ids of images that the label template should have had a label for but has not.
        excluded: ids left out, with the reason.
        notices: one line for everything a user should know.
    """

    manifest: Manifest
    unlabelled: tuple[str, ...]
    excluded: Mapping[str, str]
    notices: tuple[str, ...]


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
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read as JSON ({error})", "correct the file") from None
    if not isinstance(content, dict):
        raise InputError(file, "is not an object", "see the keys in mtmed.data.layout")
    kinds: dict[str, Any] = _REQUIRED | _OPTIONAL
    for key in (*_REQUIRED, *content):
        if key not in content:
            raise InputError(file, f"lacks the key '{key}'", f"a layout has {', '.join(_REQUIRED)}")
        if key not in kinds:
            raise InputError(file, f"has the unknown key '{key}'", f"use {', '.join(kinds)}")
        if not isinstance(content[key], kinds[key]):
            raise InputError(file, f"'{key}' is {content[key]!r}", "see the keys in mtmed.data.layout")

    def templates(key: str) -> tuple[Template, ...]:
        value = content.get(key, [])
        return tuple(Template(str(item)) for item in ([value] if isinstance(value, str) else value))

    return Layout(
        name=content["name"],
        title=content["title"],
        modalities=tuple(map(str, content["modalities"])),
        label_names=parse_label_names(content["labels"], file),
        image=templates("image"),
        label=Template(content["label"]),
        patient=Template(content["patient"]),
        id=Template(content.get("id", "{case}")),
        test_image=templates("test_image"),
        exclude={str(key): str(reason) for key, reason in content.get("exclude", {}).items()},
        expected_cases=content.get("expected_cases"),
        licence=content["licence"],
        source=content["source"],
        reference=content["reference"],
        notes=content.get("notes", ""),
    )


def apply_layout(layout: Layout, folder: str | os.PathLike[str]) -> Manifest:
    """Make the manifest of a folder; what was left out is logged. See `match_layout`."""
    match = match_layout(layout, folder)
    for notice in match.notices:
        logger.info(notice)
    return match.manifest


def match_layout(layout: Layout, folder: str | os.PathLike[str]) -> LayoutMatch:
    """Find the files of a data set and pair images with labels.

    Args:
        layout: where the files are.
        folder: the data set's folder. No image is opened.

    Raises:
        InputError: if the folder is missing, if nothing matches, if two files match where one is meant, if a case lacks
            a modality, or if labels have no image.
    """
    folder = Path(folder).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "check the path")
    paths = list(list_files(folder))
    labels = {layout.label.key(fields): (fields, path) for fields, path in find_files(layout.label, paths, folder)}
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    excluded: dict[str, str] = {}
    paired: set[Key] = set()
    for fields, images in _images(layout.image, paths, folder):
        case_id, key = layout.id.fill(fields), layout.label.key(fields)
        paired.add(key)
        if case_id in layout.exclude:
            excluded[case_id] = layout.exclude[case_id]
        elif key in labels:
            labelled.append(_make_case(layout, folder, fields, images, labels[key][1]))
        else:
            unlabelled.append(_make_case(layout, folder, fields, images, None))
    if not paired:
        problem = f"no file matches '{layout.image[0]}' ({len(paths)} files seen)"
        raise InputError(folder, problem, f"give the folder that {layout.title} was unpacked to ({layout.source})")
    orphans = [path for key, (fields, path) in labels.items() if key not in paired and not _is_excluded(layout, fields)]
    if orphans:
        problem = f"{len(orphans)} label(s) without an image that matches '{layout.image[0]}': {_some(orphans)}"
        raise InputError(folder, problem, "fetch the missing images, or move these labels away")
    test = [_make_case(layout, folder, *found, None) for found in _images(layout.test_image, paths, folder)]
    ids: set[str] = set()
    for case in (*labelled, *unlabelled, *test):
        if case.id in ids:
            problem = f"two cases are named '{case.id}'"
            raise InputError(f"layout {layout.name}", problem, f"make 'id' ('{layout.id}') tell cases apart")
        ids.add(case.id)
    manifest = Manifest(
        name=layout.name,
        folder=folder,
        modalities=layout.modalities,
        label_names=layout.label_names,
        cases=tuple(labelled),
        test_cases=(*unlabelled, *test),
        licence=layout.licence,
        reference=layout.reference,
        has_groups=True,
    )
    notices = [f"{case_id} left out: {reason}" for case_id, reason in excluded.items()]
    if unlabelled:
        names = [case.id for case in unlabelled]
        notices.append(f"{len(names)} image(s) without a label kept as test cases: {_some(names)}")
    if layout.expected_cases not in (None, len(labelled)):
        notices.append(f"{len(labelled)} labelled cases; the complete data set has {layout.expected_cases}")
    return LayoutMatch(manifest, tuple(case.id for case in unlabelled), excluded, tuple(notices))


def _make_case(layout: Layout, folder: Path, fields: Fields, images: Sequence[str], label: str | None) -> Case:
    slice_number = fields.get("slice")
    if slice_number is not None and not slice_number.isdecimal():
        raise InputError(folder / images[0], f"has the slice '{slice_number}'", r"write {slice:\d+} in the template")
    return Case(
        id=layout.id.fill(fields),
        image=tuple(str(folder / image) for image in images),
        label=None if label is None else str(folder / label),
        group=layout.patient.fill(fields),
        dataset=layout.name,
        visit=fields.get("visit"),
        slice=None if slice_number is None else int(slice_number),
        metadata={
            key: _number(value) for key, value in fields.items() if value is not None and key not in _CASE_FIELDS
        },
    )


def _images(
    templates: Sequence[Template], paths: Sequence[str], folder: Path
) -> Iterator[tuple[dict[str, str | None], list[str]]]:
    """Fields and paths of the channels of each case, in natural order."""
    if not templates:
        return
    channels = [{item.key(fields): path for fields, path in find_files(item, paths, folder)} for item in templates[1:]]
    for fields, path in find_files(templates[0], paths, folder):
        images = [path]
        for template, files in zip(templates[1:], channels, strict=True):
            if template.key(fields) not in files:
                remedy = "fetch the missing file, or move this one away"
                raise InputError(folder / path, f"has no companion that matches '{template}'", remedy)
            images.append(files[template.key(fields)])
        yield fields, images


def _is_excluded(layout: Layout, fields: Fields) -> bool:
    return layout.id.fields <= set(fields) and layout.id.fill(fields) in layout.exclude


def _number(text: str) -> int | float | str:
    """Turn plain decimal numbers into numbers; ``0012`` is a name and stays one."""
    if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text) is None:
        return text
    return float(text) if "." in text else int(text)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

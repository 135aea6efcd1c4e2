"""A layout applied to a folder: its files are found, paired and listed as cases.

What a layout says is in `mtmed.data.layout_file`.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtmed.data.case import Case
from mtmed.data.layout_file import Layout, known_layouts, read_layout
from mtmed.data.manifest import Manifest
from mtmed.data.template import Fields, Key, Template, find_files, list_files, list_folders
from mtmed.errors import InputError
from mtmed.transforms.pneumothorax_table import is_pneumothorax_table, labelled_images

__all__ = ["Layout", "LayoutMatch", "apply_layout", "known_layouts", "match_layout", "read_layout"]

logger = logging.getLogger(__name__)

_CASE_FIELDS = ("case", "patient", "visit", "slice")


@dataclass(frozen=True)
class LayoutMatch:
    """A layout applied to a folder.

    Attributes:
        manifest: the cases found; images without a label are test cases.
        unlabelled: ids of images that the label template should have had a label for but has not.
        excluded: ids left out, with the reason.
        suspects: ids kept although they may be mislabelled, with what is known of them.
        notices: one line for everything a user should know.
    """

    manifest: Manifest
    unlabelled: tuple[str, ...]
    excluded: Mapping[str, str]
    suspects: Mapping[str, str]
    notices: tuple[str, ...]


def apply_layout(layout: Layout, folder: str | os.PathLike[str]) -> Manifest:
    """Make the manifest of a folder; what was left out is logged. See `match_layout`."""
    match = match_layout(layout, folder)
    for notice in match.notices:
        logger.info(notice)
    return match.manifest


def match_layout(layout: Layout, folder: str | os.PathLike[str], *, exclude_suspects: bool = False) -> LayoutMatch:
    """Find the files of a data set and pair images with labels.

    Args:
        layout: where the files are.
        folder: the data set's folder. No image is opened. Of a table of X-rays it is read which of them are labelled.
        exclude_suspects: leave out the cases that the layout suspects to be mislabelled.

    Raises:
        InputError: if the folder is missing, if no image of the first modality is found, if two files match where one
            is meant, if labels have no image of the first modality, or if the one table of all labels is missing.
    """
    if exclude_suspects:
        layout = replace(layout, exclude={**layout.suspects, **layout.exclude}, suspects={})
    folder = Path(folder).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "check the path")
    files = _Files(folder)
    found = files.of(layout.image[0])
    if not found:
        kind = "folder" if layout.image[0].matches_folders else "file"
        problem = f"no {kind} matches '{layout.image[0]}' ({len(files.paths)} files seen)"
        raise InputError(folder, problem, f"give the folder that {layout.title} was unpacked to ({layout.source})")
    _refuse_orphans(layout, files, found)
    _require_table(layout, files, found)
    tables = _rows_by_table(layout, files)
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    excluded: dict[str, str] = {}
    for fields, _ in found:
        case = _make_case(layout, files, fields, layout.image)
        if case.label in tables and Path(case.images[0]).stem not in tables[case.label]:
            case = replace(case, label=None)
        if case.id in layout.exclude:
            excluded[case.id] = layout.exclude[case.id]
        else:
            (unlabelled if case.label is None else labelled).append(case)
    test = [_make_case(layout, files, fields, layout.test_image) for fields, _ in files.of(*layout.test_image[:1])]
    ids: set[str] = set()
    for case in (*labelled, *unlabelled, *test):
        if case.id in ids:
            problem = f"two cases are named '{case.id}'"
            raise InputError(f"layout {layout.name}", problem, f"make 'id' ('{layout.id}') tell cases apart")
        ids.add(case.id)
    notices = [f"{case_id} left out: {reason}" for case_id, reason in excluded.items()]
    suspects = {case.id: layout.suspects[case.id] for case in labelled if case.id in layout.suspects}
    if suspects:
        reasons = "; ".join(f"{case_id} ({reason})" for case_id, reason in suspects.items())
        notices.append(f"{len(suspects)} case(s) kept that may be mislabelled (--exclude-suspects omits): {reasons}")
    if unlabelled:
        names = [case.id for case in unlabelled]
        notices.append(f"{len(names)} image(s) without a label kept as test cases: {_some(names)}")
    fewer = [case.id for case in labelled if len(case.labels) < len(layout.label)]
    if fewer:
        notices.append(f"{len(fewer)} case(s) with label maps of fewer than {len(layout.label)} raters: {_some(fewer)}")
    notices += _lone_files(layout, files, found)
    modalities, cases = _present_modalities(layout, [*labelled, *unlabelled, *test], notices)
    if layout.expected_cases not in (None, len(labelled)):
        notices.append(f"{len(labelled)} labelled cases; the complete data set has {layout.expected_cases}")
    manifest = Manifest(
        name=layout.name,
        folder=folder,
        modalities=modalities,
        label_names=layout.label_names,
        cases=tuple(cases[: len(labelled)]),
        test_cases=tuple(cases[len(labelled) :]),
        licence=layout.licence,
        reference=layout.reference,
        has_groups=True,
        orientation=layout.orientation,
        overlapping=layout.overlapping,
    )
    return LayoutMatch(manifest, tuple(case.id for case in unlabelled), excluded, suspects, tuple(notices))


class _Files:
    """Files and folders below a folder, looked up by template and fields; each template is matched once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = list(list_files(folder))
        self._folders = list_folders(self.paths)
        self._found: dict[Template, dict[Key, tuple[dict[str, str | None], str]]] = {}

    def of(self, *templates: Template) -> list[tuple[dict[str, str | None], str]]:
        """Fields and path of every file of the templates, in natural order."""
        return [item for template in templates for item in self._of(template).values()]

    def get(self, template: Template, fields: Fields) -> str | None:
        """Absolute path of the template's file with these fields, None if there is none."""
        found = self._of(template).get(template.key(fields))
        return None if found is None else str(self.folder / found[1])

    def _of(self, template: Template) -> dict[Key, tuple[dict[str, str | None], str]]:
        if template not in self._found:
            paths = self._folders if template.matches_folders else self.paths
            matches = find_files(template, paths, self.folder)
            self._found[template] = {template.key(fields): (fields, path) for fields, path in matches}
        return self._found[template]


def _make_case(layout: Layout, files: _Files, fields: Fields, images: Sequence[Template]) -> Case:
    image = tuple(files.get(template, fields) for template in images)
    slice_number = fields.get("slice")
    if slice_number is not None and not slice_number.isdecimal():
        raise InputError(str(image[0]), f"has the slice '{slice_number}'", r"write {slice:\d+} in the template")
    companions = images is layout.image
    labels = [files.get(template, fields) for template in layout.label] if companions else []
    maps = {name: files.get(template, fields) for name, template in layout.maps.items()} if companions else {}
    raters = tuple(label for label in labels if label is not None)
    case_id, patient = layout.id.fill(fields), layout.patient.fill(fields)
    if not (case_id and patient):
        problem = f"gives no name for case or patient by '{layout.id}' and '{layout.patient}'"
        raise InputError(str(image[0]), problem, f"give the folder that {layout.title} was unpacked to")
    return Case(
        id=case_id,
        image=image,
        label=raters[0] if raters else None,
        group=patient,
        dataset=layout.name,
        visit=fields.get("visit") if layout.visit is None else layout.visit.fill(fields) or None,
        slice=None if slice_number is None else int(slice_number),
        metadata={
            key: _number(value) for key, value in fields.items() if value is not None and key not in _CASE_FIELDS
        },
        raters=raters[1:],
        maps={name: path for name, path in maps.items() if path is not None},
    )


def _refuse_orphans(layout: Layout, files: _Files, found: Sequence[tuple[Fields, str]]) -> None:
    """Require that each label map has an image of the first modality."""
    orphans: list[str] = []
    for template in layout.label:
        paired = {template.key(fields) for fields, _ in found}
        lone = [item for item in files.of(template) if template.key(item[0]) not in paired]
        orphans += [path for fields, path in lone if not _is_excluded(layout, fields)]
    if orphans:
        problem = f"{len(orphans)} label(s) without an image that matches '{layout.image[0]}': {_some(orphans)}"
        raise InputError(files.folder, problem, "fetch the missing images, or move these labels away")


def _require_table(layout: Layout, files: _Files, found: Sequence[tuple[Fields, str]]) -> None:
    """Require the one file that has all labels, if they are in one, unless these are the images of the test."""
    if any(template.fields or files.of(template) for template in layout.label):
        return
    # a folder of test images that was given itself looks as one of training images, but for its name
    if all(any(test.match(f"{files.folder.name}/{path}") for test in layout.test_image) for _, path in found):
        return
    what = "scans" if layout.image[0].matches_folders else "images"
    raise InputError(files.folder, f"has {what} but no '{layout.label[0]}'", "give the folder that has both")


def _rows_by_table(layout: Layout, files: _Files) -> dict[str | None, set[str]]:
    """Names of the images that a table of all labels has rows for, where an image without a row is unlabelled."""
    paths = [
        str(files.folder / path) for template in layout.label if not template.fields for _, path in files.of(template)
    ]
    return {path: labelled_images(path) for path in paths if is_pneumothorax_table(path)}


def _lone_files(layout: Layout, files: _Files, found: Sequence[tuple[Fields, str]]) -> Iterator[str]:
    """Notices of images of other modalities whose case has no image of the first one."""
    for name, template in zip(layout.modalities[1:], layout.image[1:], strict=True):
        paired = {template.key(fields) for fields, _ in found}
        lone = [path for fields, path in files.of(template) if template.key(fields) not in paired]
        if lone:
            yield f"{len(lone)} {name} image(s) without {layout.modalities[0]} left out: {_some(lone)}"


def _present_modalities(
    layout: Layout, cases: Sequence[Case], notices: list[str]
) -> tuple[tuple[str, ...], list[Case]]:
    """Leave out modalities that no case has; note the cases that lack one of the others."""
    kept: list[int] = []
    for index, name in enumerate(layout.modalities):
        lacking = [case.id for case in cases if case.image[index] is None]
        if lacking and len(lacking) == len(cases):
            notices.append(f"no case has {name}; it is left out of the modalities")
            continue
        kept.append(index)
        if lacking:
            notices.append(f"{len(lacking)} case(s) without {name}, listed as null: {_some(lacking)}")
    modalities = tuple(layout.modalities[index] for index in kept)
    return modalities, [replace(case, image=tuple(case.image[index] for index in kept)) for case in cases]


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

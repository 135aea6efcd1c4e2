"""A data set describes itself: a ``dataset.json`` in the form of the Medical Segmentation Decathlon.

The file of a genuine Decathlon task is read as it stands; beside its keys there may be ``orientation``, see
`mtmed.data.orientation`, ``overlapping``, see `mtmed.data.label_names`, and ``split``, see `mtmed.data.recorded_split`.
What a row of ``training`` or ``test`` may say is in `mtmed.data.rows`.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mtmed.data.case import Case
from mtmed.data.hidden_patients import refuse_hidden_patients
from mtmed.data.json_object import read_json_object
from mtmed.data.label_names import organ_names, parse_label_names, parse_overlapping
from mtmed.data.orientation import parse_orientation
from mtmed.data.recorded_split import RecordedSplit, parse_recorded_split, with_part_key
from mtmed.data.rows import ROW_KEYS, format_row, parse_row, refuse_duplicates
from mtmed.errors import InputError
from mtmed.files import atomic_file

__all__ = ["MANIFEST_NAME", "Cohort", "Manifest", "load_cohort", "load_manifest", "write_manifest"]

MANIFEST_NAME = "dataset.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """One data set: what its labels mean, and its cases.

    Attributes:
        name: name of the data set.
        folder: folder that the paths in the file are relative to.
        modalities: name of each image channel.
        label_names: name of each label value; 0 is the background.
        cases: labelled cases (``training`` in the file).
        test_cases: the other cases (``test``), mostly unlabelled.
        licence: terms of use of the data.
        reference: where the data are described.
        has_groups: False if no case says whose it is, so that each case counts as a patient.
        orientation: where the axes of its arrays are known to grow to (`mtmed.data.orientation`), which its affines
            are compared with; None: not known.
        overlapping: the label files are packed masks (`mtmed.organ_masks`): each value in ``label_names`` is the bit of
            one organ, and any sum of them is a legal value.
        split: how the parts that the cases carry were made, None if they carry none or the file does not say.
    """

    name: str
    folder: Path
    modalities: tuple[str, ...]
    label_names: Mapping[int, str]
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    licence: str
    reference: str
    has_groups: bool
    orientation: str | None = None
    overlapping: bool = False
    split: RecordedSplit | None = None


@dataclass(frozen=True)
class Cohort:
    """Several data sets used together. Label values mean something only together with their data set.

    Attributes:
        manifests: the data sets, in order.
    """

    manifests: tuple[Manifest, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """All labelled cases, data set by data set."""
        return tuple(case for manifest in self.manifests for case in manifest.cases)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets, in order."""
        return tuple(manifest.name for manifest in self.manifests)

    def without_labels(self) -> "Cohort":
        """The cohort as if no case had a label, for a task that must not see any."""

        def blind(cases: tuple[Case, ...]) -> tuple[Case, ...]:
            return tuple(replace(case, label=None, raters=()) for case in cases)

        return Cohort(
            tuple(replace(one, cases=blind(one.cases), test_cases=blind(one.test_cases)) for one in self.manifests)
        )

    def label_names(self, dataset: str) -> dict[int, str]:
        """Name of each label value of one data set.

        Raises:
            InputError: if the cohort has no such data set.
        """
        for manifest in self.manifests:
            if manifest.name == dataset:
                return dict(manifest.label_names)
        raise InputError(dataset, "no such data set in the cohort", f"choose one of {', '.join(self.datasets)}")

    def organs(self) -> list[str]:
        """Names of all organs, in the order of their values in the first data set.

        That is of all labels but the background and those that stand for several organs, ``"liver + tumour"``.

        Raises:
            InputError: if the data sets do not have the same names, or have none, or as
                `mtmed.data.label_names.organs_of_values`.
        """
        first, *others = self.manifests
        names = organ_names(first.label_names, f"data set {first.name}")
        if not names:
            raise InputError(f"data set {first.name}", "names no organ in 'labels'", "name each label value")
        for other in others:
            apart = sorted(set(names) ^ set(organ_names(other.label_names, f"data set {other.name}")))
            if apart:
                problem = f"'{apart[0]}' is a label of only one of {first.name} and {other.name}"
                raise InputError(f"data set {other.name}", problem, "use data sets with the same organs, named alike")
        return names


def load_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read and check a ``dataset.json``. No image is opened: see `mtmed.data.check`.

    Args:
        path: the file, or the folder that has it.

    Raises:
        InputError: naming the file, and the row where it is one, if the file is missing, is not JSON, lacks a key, has
            an unknown key or a value of the wrong type, or names a case or an image twice; or as
            `mtmed.data.hidden_patients.refuse_hidden_patients`.
    """
    path = Path(path).expanduser()
    file = path / MANIFEST_NAME if path.is_dir() else path
    if not file.is_file():
        raise _no_manifest(path)
    content = read_json_object(file, remedy="give an object with 'labels' and 'training'")
    known = ", ".join(ROW_KEYS)
    name = content.get("name") or file.resolve().parent.name
    if not isinstance(name, str) or "/" in name:
        raise InputError(file, f"'name' is {name!r}", "give the data set a name without '/'")
    overlapping = parse_overlapping(content.get("overlapping"), file)
    label_names = parse_label_names(content.get("labels"), file, overlapping=overlapping)
    modality = content.get("modality")
    if not isinstance(modality, dict) or sorted(modality) != sorted(map(str, range(len(modality)))) or not modality:
        raise InputError(file, f"'modality' is {modality!r}", 'number the image channels: {"0": "CT"}')
    modalities = tuple(str(modality[str(index)]) for index in range(len(modality)))

    parsed: dict[str, list[tuple[Case, bool]]] = {}
    for part in ("training", "test"):
        rows = content.get(part, [] if part == "test" else None)
        if not isinstance(rows, list):
            raise InputError(file, f"'{part}' is {type(rows).__name__}, not a list", f"list rows with the keys {known}")
        parsed[part] = [
            parse_row(row, f"{file} {part}[{index}]", file.parent, name, len(modalities), labelled=part == "training")
            for index, row in enumerate(rows)
        ]
    if not parsed["training"] and not parsed["test"]:
        raise InputError(file, "'training' is empty", "list at least one case")

    refuse_duplicates(file, {part: [case for case, _ in rows] for part, rows in parsed.items()})
    # plain file names in 'test', as in the Decathlon, cannot say whose they are
    part = "training" if parsed["training"] else "test"
    with_patient = [has for _, has in parsed[part]]
    if len(set(with_patient)) > 1:
        problem = "has no 'patient' though other rows have"
        raise InputError(f"{file} {part}[{with_patient.index(False)}]", problem, "give it to all rows")
    if not any(with_patient):
        refuse_hidden_patients(file, [case for case, _ in parsed["training"]])
    split = parse_recorded_split(content.get("split"), file)
    return Manifest(
        name=name,
        folder=file.parent.absolute(),
        modalities=modalities,
        label_names=label_names,
        cases=with_part_key([case for case, _ in parsed["training"]], split, file),
        test_cases=tuple(case for case, _ in parsed["test"]),
        licence=str(content.get("licence", content.get("license", ""))),
        reference=str(content.get("reference", "")),
        has_groups=all(with_patient),
        orientation=parse_orientation(content.get("orientation"), file),
        overlapping=overlapping,
        split=split,
    )


def load_cohort(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Cohort:
    """Read one or several data sets.

    Args:
        paths: a folder with a ``dataset.json``, such a file, a folder whose sub-folders each have one, or a list of
            these.

    Raises:
        InputError: if there is no manifest, if two data sets have the same name, or as `load_manifest`.
    """
    given: Iterable[str | os.PathLike[str]] = [paths] if isinstance(paths, str | os.PathLike) else paths
    files: list[Path] = []
    for path in (Path(item).expanduser() for item in given):
        if path.is_dir() and not (path / MANIFEST_NAME).is_file():
            inside = sorted(file for file in path.glob(f"*/{MANIFEST_NAME}") if not file.parent.name.startswith("."))
            if not inside:
                raise _no_manifest(path)
            files.extend(inside)
        else:
            files.append(path)
    if not files:
        raise InputError("cohort", "the list of data sets is empty", "name at least one folder")
    manifests = tuple(load_manifest(file) for file in files)
    seen: dict[str, Path] = {}
    for manifest in manifests:
        if manifest.name in seen:
            problem = f"has the same name '{manifest.name}' as {seen[manifest.name]}"
            raise InputError(manifest.folder, problem, f"change 'name' in one {MANIFEST_NAME}, or name the folder once")
        seen[manifest.name] = manifest.folder
    ungrouped = [manifest.name for manifest in manifests if not manifest.has_groups]
    if ungrouped:
        logger.info("%s: no row has 'patient', so each case counts as its own patient", ", ".join(ungrouped))
    return Cohort(manifests)


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> Path:
    """Write a manifest that `load_manifest` reads back; the file is replaced as a whole.

    Args:
        manifest: what to write. Paths are written relative to the file's folder where the images lie inside it.
        path: the file, or the folder in which ``dataset.json`` is written.

    Returns:
        The file written.

    Raises:
        InputError: if the file cannot be written.
    """
    path = Path(path).expanduser().absolute()
    file = path / MANIFEST_NAME if path.is_dir() else path
    content = {
        "name": manifest.name,
        "reference": manifest.reference,
        "licence": manifest.licence,
        "modality": {str(index): name for index, name in enumerate(manifest.modalities)},
        "labels": {str(value): name for value, name in sorted(manifest.label_names.items())},
        "numTraining": len(manifest.cases),
        "numTest": len(manifest.test_cases),
        **({} if manifest.orientation is None else {"orientation": manifest.orientation}),
        **({"overlapping": True} if manifest.overlapping else {}),
        **({} if manifest.split is None else {"split": asdict(manifest.split)}),
        "training": [format_row(case, file.parent, manifest.has_groups) for case in manifest.cases],
        "test": [format_row(case, file.parent, manifest.has_groups) for case in manifest.test_cases],
    }
    with atomic_file(file, remedy="name a folder that you may write to") as whole:
        whole.write((json.dumps(content, indent=4, ensure_ascii=False) + "\n").encode())
    return file


def _no_manifest(path: Path) -> InputError:
    if not path.exists():
        return InputError(path, "no such file or folder", "check the path")
    # imported here because layouts make manifests
    from mtmed.data.layout import known_layouts

    names = ", ".join(known_layouts()) or "none found"
    remedy = f"write one with 'mtmed manifest LAYOUT {path}' (known layouts: {names}; a path to your own works too)"
    return InputError(path, f"has no {MANIFEST_NAME}", remedy)

"""Whether tables of masks, which many cases share, and the cases fit together: said once per table."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mtmed.data.case import Case
from mtmed.data.manifest import Manifest
from mtmed.errors import InputError
from mtmed.transforms.mask_table import MaskTable, table_problems, unlisted_scans
from mtmed.transforms.pneumothorax_table import PneumothoraxTable, is_pneumothorax_table, unlisted_images

__all__ = ["check_mask_tables"]


def check_mask_tables(
    cases: Sequence[Case], listed: Sequence[Case], manifests: Mapping[str, Manifest]
) -> tuple[list[str], dict[str, list[str]]]:
    """Compare the tables that are the label of some cases with the images and with the manifests.

    Errors: rows of a listed scan without an image; organs that are not those of the manifest, whose values are bits in
    the alphabetical order of the table's organs. Notices: scans and X-rays that no case lists, since a manifest may
    leave some out. What concerns one scan alone, images without rows for example, is found when the case is read.

    Args:
        cases: the cases that are checked.
        listed: all cases of their manifests.
        manifests: by name of the data set; a data set without one may have any organs.

    Returns:
        Errors, one line each, and the data sets of each notice.
    """
    labelled: dict[str, list[Case]] = {}
    for case in cases:
        for path in case.labels:
            if path.lower().endswith(".csv"):
                labelled.setdefault(path, []).append(case)
    errors: list[str] = []
    notices: dict[str, list[str]] = {}
    for path, own in labelled.items():
        x_rays = is_pneumothorax_table(path)
        try:
            classes = PneumothoraxTable.read(path).classes if x_rays else MaskTable.read(path).classes
        except InputError:
            continue  # each of its cases says so
        datasets = sorted({case.dataset for case in own})
        for name in datasets:
            if name in manifests:
                errors += _other_organs(path, classes, manifests[name])
        if x_rays:
            unlisted = unlisted_images(path, [case.images[0] for case in listed])
        else:
            for folder in sorted({_folder(case) for case in own}):
                with suppress(InputError):  # of the folder, which its case names
                    errors += table_problems(path, [folder])
            unlisted = unlisted_scans(path, {_folder(case) for case in listed})
        if unlisted:
            count = f"{len(unlisted)} {'image' if x_rays else 'scan'}{'s' if len(unlisted) > 1 else ''}"
            text = f"{Path(path).name} has rows for {count} that no case lists, as {unlisted[0]}"
            notices[text] = datasets
    return errors, notices


def _other_organs(path: str, classes: Sequence[str], manifest: Manifest) -> list[str]:
    bits = {0: manifest.label_names[0], **{1 << place: name for place, name in enumerate(classes)}}
    labels = ", ".join(f'"{value}": "{name}"' for value, name in bits.items())
    remedy = f'write "labels": {{{labels}}} and "overlapping": true into its dataset.json'
    if dict(manifest.label_names) != bits:
        named = ", ".join(f"{value} {name}" for value, name in manifest.label_names.items() if value)
        problem = f"has masks of {', '.join(classes)}, the labels of {manifest.name} are {named}"
        return [str(InputError(path, problem, remedy))]
    if not manifest.overlapping and len(classes) > 1:
        problem = f"holds masks that may overlap, which {manifest.name} does not say"
        return [str(InputError(path, problem, remedy))]
    return []


def _folder(case: Case) -> str:
    """Folder of the slices of a case, whose image is this folder or one of them."""
    image = Path(case.images[0])
    return str(image.parent if image.suffix.lower() == ".png" else image)

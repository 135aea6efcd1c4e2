"""Commands of mixcl and ``mtmed`` on a tiny cohort of abdomens, and ways to spoil its files."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK
from catalogue import Prepare, bundle, mtmed
from mixcl_inputs import SETTINGS, TINY, change_manifest, image, label, network, write_abdomens

from mtmed.networks import save_network

__all__ = [
    "CHECK",
    "EVALUATE",
    "FINETUNE",
    "INFERENCE",
    "PRETRAIN",
    "as_plain",
    "both",
    "edit_header",
    "evaluate",
    "finetune",
    "in_format",
    "inference",
    "list_as",
    "patch_bytes",
    "pretrain",
    "rename",
    "spoil",
    "trained",
]


def pretrain(**more: Any) -> tuple[str, ...]:
    return bundle("mixcl", "pretrain", {**TINY, "dataset_dir": "{}/cohort", "store_dir": "{}/store", **more})


def finetune(**more: Any) -> tuple[str, ...]:
    options = {"dataset_dir": "{}/cohort", "store_dir": "{}/store", "folds": 2, "val_interval": 1}
    return bundle("mixcl", "finetune", {**TINY, **options, **more})


def evaluate(**more: Any) -> tuple[str, ...]:
    options = {"checkpoint": "{}/weights.pt", "dataset_dir": "{}/cohort", "folds": 2, "overlays": False}
    return bundle("mixcl", "evaluate", {**options, **more})


def inference(**more: Any) -> tuple[str, ...]:
    return bundle("mixcl", "inference", {"checkpoint": "{}/weights.pt", "input": "{}/cohort/images", **more})


PRETRAIN = pretrain()
FINETUNE = finetune()
EVALUATE = evaluate()
INFERENCE = inference()
CHECK = mtmed("check", "{}/cohort")


# --- good cohorts with one thing changed --------------------------------------------------------------------------


def spoil(change: Prepare = lambda folder: None) -> Prepare:
    """Four abdomens with one thing changed."""

    def prepare(folder: Path) -> None:
        write_abdomens(folder)
        change(folder)

    return prepare


def trained(change: Prepare = lambda folder: None, **settings: Any) -> Prepare:
    """Four abdomens with one thing changed, and the weights of a network that was never trained."""

    def prepare(folder: Path) -> None:
        write_abdomens(folder)
        save_network(folder / "weights.pt", network(), {**SETTINGS, **settings})
        change(folder)

    return prepare


def both(folder: Path, change: Callable[[Path], Any]) -> None:
    """Change an image and its label alike."""
    for path in (image(1), label(1)):
        change(folder / path)


# --- files --------------------------------------------------------------------------------------------------------


def edit_header(path: Path, offset: int, form: str, *values: float) -> None:
    """Overwrite fields of a NIfTI-1 header; offsets are those of the standard."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(f"<{form}", content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content), mtime=0))


def patch_bytes(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the bytes of a file."""
    path.write_bytes(change(path.read_bytes()))


def as_plain(path: Path) -> None:
    """Unpack a file under its name."""
    patch_bytes(path, gzip.decompress)


def rename(folder: Path, file: str, number: int = 1) -> Path:
    """Give an image another name, in the manifest too."""
    old, new = folder / image(number), folder / "cohort" / file
    new.parent.mkdir(exist_ok=True)
    old.rename(new)
    list_as(folder, "image", file, number)
    return new


def list_as(folder: Path, key: str, value: Any, number: int = 1) -> None:
    """Change a key of a row of the manifest."""
    change_manifest(folder, lambda content: content["training"][number].update({key: value}))


def in_format(folder: Path, suffix: str, *, compress: bool = True) -> Path:
    """Write an image in a format of ITK and list it."""
    path = folder / "cohort" / "images" / f"1{suffix}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / image(1))), str(path), compress)
    (folder / image(1)).unlink()
    list_as(folder, "image", f"images/1{suffix}")
    return path

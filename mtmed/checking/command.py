"""The command ``mtmed check``."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtmed.checking.plain_config import CONFIG_SUFFIXES
from mtmed.errors import InputError
from mtmed.files import atomic_file

__all__ = ["add_arguments", "run"]

_MANIFEST_KEYS = {"training", "test", "labels", "modality", "channel_names"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed check`` to its parser."""
    what = "folders of data sets (with dataset.json, or such folders inside), or a bundle's config and its overlays"
    parser.add_argument("what", nargs="+", metavar="DATASET_OR_CONFIG", help=what)
    parser.add_argument("--json", metavar="FILE", help="write the report to this file")
    parser.add_argument("--workers", type=int, metavar="N", help="number of threads; default: one per core, at most 8")
    data = parser.add_argument_group("for data sets")
    axes = ("R", "A", "S")
    data.add_argument("--patch-size", type=int, nargs=3, metavar=axes, help="voxels of a training patch")
    data.add_argument("--spacing", type=float, nargs=3, metavar=axes, help="mm that volumes are resampled to first")
    grids = "what to do with files on another grid than the case's first image (the bundle ms_lesion resamples them)"
    data.add_argument("--other-grids", choices=("refuse", "resample"), default="refuse", help=grids)
    config = parser.add_argument_group("for configs")
    set_help = "an override, as --KEY VALUE of the bundle; may be given again"
    config.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    config.add_argument("--no-data", action="store_true", help="do not read the images and labels")
    untrusted = "list what configs or a bundle's folder would import, call and open, without running anything of it"
    config.add_argument("--untrusted", action="store_true", help=untrusted)


def run(arguments: argparse.Namespace) -> int:
    """Check data sets or a config and print what was found.

    Returns:
        Exit status: 0, or 1 if there is an error, or something suspicious in an untrusted config.
    """
    for name, values in (("--patch-size", arguments.patch_size), ("--spacing", arguments.spacing)):
        if values is not None and min(values) <= 0:
            raise InputError(name, f"is {values}", "give three numbers above 0")
    if arguments.untrusted:
        _refuse_options(arguments, "--untrusted", ("patch_size", "spacing", "set", "no_data"))
        from mtmed.checking.untrusted.report import as_records, check_untrusted, print_findings

        findings = check_untrusted(arguments.what)
        print_findings(findings)
        status = int(any(item.reason for item in findings))
        content: Any = {"findings": as_records(findings)}
    elif any(_is_config(Path(item)) for item in arguments.what):
        _refuse_options(arguments, "a config", ("patch_size", "spacing"))
        from mtmed.checking.config_check import check_config

        content, status = check_config(
            arguments.what, settings=arguments.set, read_data=not arguments.no_data, workers=arguments.workers
        )
    else:
        _refuse_options(arguments, "a data set", ("set", "no_data"))
        from mtmed.checking.cohort_check import check_folders

        content, status = check_folders(
            arguments.what,
            patch_size=arguments.patch_size,
            spacing=arguments.spacing,
            other_grids=arguments.other_grids,
            workers=arguments.workers,
        )
    if arguments.json is not None:
        _write(content, arguments.json)
    return status


def _refuse_options(arguments: argparse.Namespace, what: str, names: Sequence[str]) -> None:
    for name in names:
        if getattr(arguments, name):
            raise InputError(f"--{name.replace('_', '-')}", f"does nothing with {what}", "leave it out")


def _is_config(path: Path) -> bool:
    """Whether a path is a bundle's config: a JSON or YAML file that is no manifest.

    Raises:
        InputError: for a study file.
    """
    if path.name == "dataset.json" or path.suffix.lower() not in CONFIG_SUFFIXES or path.is_dir():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(path, "no such file", "name a config, or the folder of a data set") from None
    except (OSError, ValueError, RecursionError):
        return True  # YAML, or a file of which the check says what is wrong
    keys = set(content) if isinstance(content, dict) else set()
    above = {key.replace("#", "::").partition("::")[0] for key in keys}
    if above & {"arms", "steps", "choices"} and not above & {"run", "imports"}:
        raise InputError(path, "is a study file", f"check it with: mtmed study {path} --dry-run")
    return "training" not in keys or not keys & (_MANIFEST_KEYS - {"training"})


def _write(content: Any, file: str) -> None:
    with atomic_file(file, remedy="name a file that you may write") as report:
        report.write((json.dumps(content, indent=4, ensure_ascii=False) + "\n").encode())

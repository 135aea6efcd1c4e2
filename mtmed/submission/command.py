"""The command ``mtmed submission``."""

import argparse

from mtmed.errors import InputError
from mtmed.submission.isbi2015 import write_isbi_submission
from mtmed.submission.kits19 import write_kits_submission
from mtmed.submission.uw_madison import write_uw_madison_submission

__all__ = ["add_arguments", "run"]

# the option that each challenge has, and the file that it takes
_OPTIONS = {"isbi2015": "method", "kits19": "images", "uw_madison": "images"}
_OUTPUTS = {"isbi2015": "submission.zip", "kits19": "submission.zip", "uw_madison": "submission.csv"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed submission`` to its parser."""
    what = "predictions of the challenge's test cases: a folder, or files"
    parser.add_argument("predictions", nargs="+", metavar="PREDICTIONS", help=what)
    which = "who takes them: the ISBI 2015 longitudinal MS lesion challenge (default), KiTS19, or UW-Madison GI tract"
    parser.add_argument("--challenge", choices=tuple(_OPTIONS), default="isbi2015", help=which)
    parser.add_argument("--method", metavar="NAME", help="isbi2015: name of the method, part of each file's name")
    images = (
        "kits19: compare with the grids of the images in this folder (data/case_00210/imaging.nii.gz); "
        "uw_madison: folder of the scans (case123/case123_day20/scans), each slice of which gets its rows"
    )
    parser.add_argument("--images", metavar="FOLDER", help=images)
    parser.add_argument("--output", metavar="FILE", help="file to write; default: submission.zip, for uw_madison .csv")


def run(arguments: argparse.Namespace) -> int:
    """Pack the predictions and say what was written."""
    for option in ("method", "images"):
        if option != _OPTIONS[arguments.challenge] and getattr(arguments, option) is not None:
            others = " or ".join(challenge for challenge, own in _OPTIONS.items() if own == option)
            problem = f"is not an option of {arguments.challenge}"
            raise InputError(f"--{option}", problem, f"leave it out, or add --challenge {others}")
    arguments.output = arguments.output or _OUTPUTS[arguments.challenge]
    pack = {"isbi2015": _isbi, "kits19": _kits, "uw_madison": _uw_madison}[arguments.challenge]
    return pack(arguments)


def _isbi(arguments: argparse.Namespace) -> int:
    if arguments.method is None:
        remedy = "name the method, or add --challenge kits19 if these are predictions of KiTS19"
        raise InputError("--method", "is not given", remedy)
    cases = write_isbi_submission(arguments.predictions, output=arguments.output, method=arguments.method)
    first = next(iter(cases))
    print(f"written: {arguments.output} ({len(cases)} scans, {first}_{arguments.method}.nii and so on)")
    print("next: upload it at https://smart-stats-tools.org/lesion-challenge")
    return 0


def _kits(arguments: argparse.Namespace) -> int:
    cases = write_kits_submission(arguments.predictions, output=arguments.output, images=arguments.images)
    if arguments.images is None:
        print("notice: the grids were not compared with those of the images; pass --images to do so")
    print("notice: tumours must be 2; where they count as kidney, as in the bundle siamese_kidney, their score is 0")
    print(f"written: {arguments.output} ({len(cases)} cases, prediction_00210.nii.gz and so on)")
    print("next: upload it at https://kits19.grand-challenge.org, with the manuscript that its rules ask for")
    return 0


def _uw_madison(arguments: argparse.Namespace) -> int:
    if arguments.images is None:
        raise InputError("--images", "is not given", "pass the folder of the scans, whose slices the table must list")
    scans = write_uw_madison_submission(arguments.predictions, output=arguments.output, images=arguments.images)
    first = next(iter(scans))
    print(f"written: {arguments.output} ({len(scans)} scans, {first}_slice_0001 and so on)")
    print("next: the competition takes it from a notebook on its own test set, see")
    print("  https://www.kaggle.com/competitions/uw-madison-gi-tract-image-segmentation")
    return 0

"""The command ``mtmed submission``."""

import argparse

from mtmed.errors import InputError
from mtmed.submission.isbi2015 import write_isbi_submission
from mtmed.submission.kits19 import write_kits_submission

__all__ = ["add_arguments", "run"]

_OPTIONS = {"isbi2015": "method", "kits19": "images"}  # the option that only this challenge has


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed submission`` to its parser."""
    what = "predictions of the challenge's test cases: a folder, or files"
    parser.add_argument("predictions", nargs="+", metavar="PREDICTIONS", help=what)
    which = "whose website takes them: the ISBI 2015 longitudinal MS lesion challenge (default), or KiTS19"
    parser.add_argument("--challenge", choices=tuple(_OPTIONS), default="isbi2015", help=which)
    parser.add_argument("--method", metavar="NAME", help="isbi2015: name of the method, part of each file's name")
    images = "kits19: compare with the grids of the images in this folder (data/case_00210/imaging.nii.gz)"
    parser.add_argument("--images", metavar="FOLDER", help=images)
    parser.add_argument("--output", default="submission.zip", metavar="FILE", help="zip file to write")


def run(arguments: argparse.Namespace) -> int:
    """Pack the predictions and say what was written."""
    for challenge, option in _OPTIONS.items():
        if challenge != arguments.challenge and getattr(arguments, option) is not None:
            problem = f"is not an option of {arguments.challenge}"
            raise InputError(f"--{option}", problem, f"leave it out, or add --challenge {challenge}")
    if arguments.challenge == "isbi2015":
        return _isbi(arguments)
    return _kits(arguments)


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

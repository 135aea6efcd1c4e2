"""The command ``mtmed``: what a bundle cannot do.

Each sub-command is a row of `COMMANDS`: a name, a line of help, a function that adds its arguments and one that runs
it. Imports stand inside the functions, so that ``mtmed --help`` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtmed.checking import command as check
from mtmed.studies import command as study
from mtmed.submission import command as submission
from mtmed.text_table import print_table
from mtmed.zoo import export, release

__all__ = ["COMMANDS", "Command", "main"]


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        name: what the user types.
        help: one line.
        add_arguments: adds the command's arguments to its parser.
        run: does the work and returns the exit status.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mtmed``.

    Args:
        argv: arguments without the program's name; default: those of the process.

    Returns:
        The exit status: 0, or 1 after a message on stderr.
    """
    from mtmed import __version__

    parser = argparse.ArgumentParser(prog="mtmed", description="Data, bundles and studies of mtmed.")
    parser.add_argument("--version", action="version", version=f"mtmed {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    from mtmed.errors import InputError

    try:
        status: int = arguments.run(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def _add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", nargs="?", metavar="LAYOUT", help="name of a known layout, or a JSON file")
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="folder of the data set")
    parser.add_argument("--output", metavar="FILE", help="file to write; default: dataset.json in the folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    suspects = "leave out the cases that the layout suspects to be mislabelled"
    parser.add_argument("--exclude-suspects", action="store_true", help=suspects)
    shares = "record which cases train, validate and test: percentages, for example 70 20 10"
    parser.add_argument("--shares", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"), help=shares)
    split_key = "what the parts share nothing of: patient (default) or patient_day"
    parser.add_argument("--split-key", metavar="KEY", help=split_key)
    parser.add_argument("--split-seed", type=int, metavar="N", help="seed of the parts; default: 0")
    parser.add_argument("--list", action="store_true", help="list the known layouts and stop")


def _run_manifest(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from mtmed.data.layout import known_layouts, match_layout, read_layout
    from mtmed.data.manifest import MANIFEST_NAME, write_manifest
    from mtmed.data.parts import PARTS, record_parts
    from mtmed.errors import InputError

    if arguments.list:
        layouts = [read_layout(file) for file in known_layouts().values()]
        labels = [", ".join(name for value, name in item.label_names.items() if value) for item in layouts]
        header = ("layout", "cases", "modalities", "labels", "licence")
        print_table(
            [header]
            + [
                (item.name, str(item.expected_cases or "?"), ", ".join(item.modalities), names, item.licence)
                for item, names in zip(layouts, labels, strict=True)
            ]
        )
        return 0
    if arguments.layout is None or arguments.folder is None:
        raise InputError("mtmed manifest", "needs a layout and a folder", "see 'mtmed manifest --list' for the layouts")
    layout = read_layout(arguments.layout)
    output = Path(arguments.output or Path(arguments.folder) / MANIFEST_NAME).expanduser()
    output = output / MANIFEST_NAME if output.is_dir() else output
    if output.exists() and not arguments.overwrite:
        remedy = "use it as it stands, name another file with --output, or add --overwrite"
        raise InputError(output, "exists already", remedy)
    if arguments.shares is None and (arguments.split_key is not None or arguments.split_seed is not None):
        raise InputError("mtmed manifest", "--split-key and --split-seed need --shares", "add --shares 70 20 10")
    match = match_layout(layout, arguments.folder, exclude_suspects=arguments.exclude_suspects)
    manifest, parts = match.manifest, None
    if arguments.shares is not None:
        key, seed = arguments.split_key or "patient", arguments.split_seed or 0
        manifest, parts = record_parts(manifest, shares=arguments.shares, key=key, seed=seed)
    write_manifest(manifest, output)
    patients = len({case.group for case in manifest.cases})
    print(f"{layout.title}: {len(manifest.cases)} labelled cases of {patients} patients,", end=" ")
    print(f"{len(manifest.test_cases)} test cases, {len(match.excluded)} left out")
    if parts is not None:
        counts = ", ".join(f"{len(getattr(parts, name))} {name}" for name in PARTS)
        print(f"  cases by part: {counts} ({parts.stated})")
    for notice in match.notices:
        print(f"  {notice}")
    if layout.notes:
        print(f"  {layout.notes}")
    print(f"written: {output}")
    print(f"next: mtmed check {output}")
    return 0


COMMANDS: tuple[Command, ...] = (
    Command("manifest", "write the dataset.json of a public data set", _add_manifest_arguments, _run_manifest),
    Command("check", "find everything that is wrong with data sets or a config", check.add_arguments, check.run),
    Command("study", "run and compare arms, folds, label fractions and random seeds", study.add_arguments, study.run),
    Command("submission", "pack predictions for a challenge", submission.add_arguments, submission.run),
    Command("release", "write a weights file for others, as safetensors", release.add_arguments, release.run),
    Command("export", "write the Model Zoo's layout of a bundle", export.add_arguments, export.run),
)


if __name__ == "__main__":
    sys.exit(main())

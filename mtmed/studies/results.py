"""What the runs of a study left behind: their scores and the files of the scored cases."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtmed.errors import InputError
from mtmed.output_name import output_name

__all__ = ["CaseFiles", "Result", "Score", "read_case_files", "read_protocol", "read_scores", "score_columns"]

SCORES_NAME = "scores.csv"
SUMMARY_NAME = "summary.json"
CASES_NAME = "cases.json"

# what says of which case, organ and patient a row is
_IDENTITY = ("dataset", "case", "group", "organ")


@dataclass(frozen=True)
class Result:
    """One run of a study, as far as it got.

    Attributes:
        arm: name of the arm.
        fold: fold of the cross-validation.
        fraction: share of the labels that were used, %.
        seed: random seed.
        state: whether the run is finished, failed, or not there yet.
        training: output folder of the run's last training step, with ``losses.csv`` and TensorBoard events.
        evaluation: output folder of its evaluation, with ``scores.csv`` and ``predictions/``.
    """

    arm: str
    fold: int | str
    fraction: float
    seed: int
    state: Literal["finished", "failed", "missing"]
    training: Path | None = None
    evaluation: Path | None = None

    @property
    def name(self) -> str:
        """How the run is called in reports."""
        return f"{self.arm}, {self.fraction:g} %, fold {self.fold}, seed {self.seed}"

    @property
    def scores(self) -> Path | None:
        """Table of scores of a finished run, None if the run has none."""
        if self.state != "finished" or self.evaluation is None:
            return None
        path = self.evaluation / SCORES_NAME
        return path if path.is_file() else None


@dataclass(frozen=True)
class Score:
    """One row of ``scores.csv``.

    Attributes:
        patient: data set and patient.
        case: key of the case, ``dataset/id``.
        organ: name of the organ.
        values: value of each metric, NaN where it is undefined.
    """

    patient: str
    case: str
    organ: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class CaseFiles:
    """Files of a scored case, as listed in ``cases.json``.

    Attributes:
        image: the image that the label maps lie on, a file or a folder of slices.
        reference: reference label map, or the table that has the masks of the image's slices.
        organs: organ to its value or values in the prediction and in the reference.
        window: lowest and highest image value that is shown; None if it is left to the picture.
        prediction: predicted label map.
    """

    image: Path
    reference: Path
    organs: Mapping[str, tuple[int | tuple[int, ...], int | tuple[int, ...]]]
    window: tuple[float, float] | None
    prediction: Path


def score_columns(path: Path) -> list[str]:
    """Columns of a table of scores that say no case, organ or patient.

    Raises:
        InputError: if the table cannot be read or lacks a column that says of what a row is.
    """
    with _opened(path) as file:
        columns = next(csv.reader(file), [])
    lacking = [name for name in _IDENTITY if name not in columns]
    if lacking:
        raise InputError(path, f"has no column {lacking[0]}", "run the evaluation again")
    return [name for name in columns if name not in _IDENTITY]


def read_scores(path: Path, metrics: Sequence[str]) -> list[Score]:
    """Rows of a table of scores; an empty cell is an undefined value (NaN).

    Args:
        path: ``scores.csv`` of an evaluation.
        metrics: columns to read.

    Raises:
        InputError: if the table cannot be read, lacks one of the columns, or a cell is no number.
    """
    known = score_columns(path)
    for metric in metrics:
        if metric not in known:
            raise InputError(path, f"has no column {metric}", f"choose metrics from {', '.join(known)}")
    with _opened(path) as file:
        rows = list(csv.DictReader(file))
    return [
        Score(
            patient=f"{row['dataset']}/{row['group']}",
            case=f"{row['dataset']}/{row['case']}",
            organ=row["organ"],
            values={metric: _number(row[metric], path, metric) for metric in metrics},
        )
        for row in rows
    ]


def read_case_files(evaluation: Path) -> dict[str, CaseFiles]:
    """Files of each case that an evaluation scored, by key; empty if it wrote no ``cases.json``.

    Raises:
        InputError: if ``cases.json`` is damaged.
    """
    path = evaluation / CASES_NAME
    if not path.is_file():
        return {}
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text())
        return {
            key: CaseFiles(
                image=Path(entry["image"]),
                reference=Path(entry["reference"]),
                organs={organ: (_values(ours), _values(theirs)) for organ, (ours, theirs) in entry["organs"].items()},
                window=(float(entry["window"][0]), float(entry["window"][1])) if entry["window"] else None,
                prediction=evaluation / "predictions" / f"{output_name(key)}_seg.nii.gz",
            )
            for key, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(path, f"is damaged ({error!r})", "run the evaluation again") from error


def read_protocol(evaluation: Path) -> dict[str, Any]:
    """How an evaluation measured, from its ``summary.json``; empty if it wrote none."""
    try:
        protocol = json.loads((evaluation / SUMMARY_NAME).read_text(encoding="utf-8"))["protocol"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return protocol if isinstance(protocol, dict) else {}


def _values(listed: int | list[int]) -> int | tuple[int, ...]:
    return tuple(map(int, listed)) if isinstance(listed, list) else int(listed)


def _opened(path: Path) -> Any:
    try:
        return open(path, newline="", encoding="utf-8")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "run the evaluation again") from error


def _number(cell: str | None, path: Path, metric: str) -> float:
    if cell == "":
        return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(path, f"holds {cell!r} as {metric}, expected a number", "run the evaluation again") from error

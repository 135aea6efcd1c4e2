"""The job of a choice: which of several arms is the best by what its trainings found on their validation cases."""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import atomic_file, write_error

__all__ = ["BEST", "CHOICE", "BestValue", "choose", "main", "mean_and_sd", "read_best", "seed_folder"]

BEST, CHOICE = "best.json", "choice.json"


@dataclass(frozen=True)
class BestValue:
    """The best value of a training's key metric.

    Attributes:
        metric: name of the metric.
        value: the value; larger is better.
    """

    metric: str
    value: float


def read_best(run: Path) -> BestValue:
    """The best value that a training recorded in its output folder.

    Raises:
        InputError: naming the job, if there is no ``best.json`` or it has no finite value.
    """
    job = run.parent.name
    try:
        content = json.loads((run / BEST).read_text(encoding="utf-8"))
        metric, value = str(content["metric"]), content["value"]
    except OSError:
        problem = f"wrote no {BEST}, so it cannot be compared"
        raise InputError(job, problem, "compare a step that writes it, or run the study again") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(job, f"has a {BEST} that cannot be read", f"delete {run} and run the study again") from None
    if not isinstance(value, int | float) or not math.isfinite(value):
        problem = f"has no best value of {metric}"
        raise InputError(job, problem, "validate at least once, on cases in which the metric is defined")
    return BestValue(metric, float(value))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of values; NaN where there are too few."""
    if not values:
        return math.nan, math.nan
    return math.fsum(values) / len(values), statistics.stdev(values) if len(values) > 1 else math.nan


def seed_folder(output_dir: Path, seed: int) -> Path:
    """Folder of the winner's links for one random seed."""
    return output_dir / f"seed{seed}"


def choose(name: str, step: str, candidates: Mapping[str, Mapping[int, Path]], output_dir: Path) -> str:
    """Compare arms by the mean over their random seeds, and link to the runs of the best.

    One arm wins for all seeds; of equal ones the first named. Writes ``choice.json`` and, for each seed,
    ``seed<k>/<step>``, a relative link to the winner's output folder.

    Args:
        name: name of the choice.
        step: the step that is compared; names the links.
        candidates: per arm and random seed the output folder of its job.
        output_dir: folder to write.

    Returns:
        The winner.

    Raises:
        InputError: see `read_best`; also if two trainings recorded different metrics.
    """
    best = {arm: {seed: read_best(run) for seed, run in runs.items()} for arm, runs in candidates.items()}
    metrics = {one.metric: candidates[arm][seed] for arm, own in best.items() for seed, one in own.items()}
    if len(metrics) > 1:
        (first, _), (second, run), *_ = metrics.items()
        problem = f"recorded {second}, and others {first}"
        raise InputError(run.parent.name, problem, f"compare arms with the same key metric in the choice {name!r}")
    means = {arm: mean_and_sd([one.value for one in own.values()]) for arm, own in best.items()}
    winner = max(means, key=lambda arm: means[arm][0])
    try:
        for seed, run in candidates[winner].items():
            place = seed_folder(output_dir, seed)
            place.mkdir(parents=True, exist_ok=True)
            (place / step).unlink(missing_ok=True)
            (place / step).symlink_to(os.path.relpath(run, place), target_is_directory=True)
    except OSError as error:
        raise write_error(output_dir, error, remedy="choose an --output where links can be made") from error
    arms = {
        arm: {
            "values": {str(seed): one.value for seed, one in own.items()},
            "mean": means[arm][0],
            "sd": means[arm][1] if math.isfinite(means[arm][1]) else None,
        }
        for arm, own in best.items()
    }
    content: dict[str, Any] = {"choice": name, "step": step, "metric": next(iter(metrics)), "arms": arms}
    with atomic_file(output_dir / CHOICE) as file:
        file.write((json.dumps({**content, "winner": winner}, indent=4, ensure_ascii=False) + "\n").encode())
    return winner


def main(argv: Sequence[str] | None = None) -> int:
    """Run a choice as a process of its own.

    Returns:
        Exit status: 0, or 1 after a line that says what is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m mtmed.studies.choose", description="Compare arms of a study.")
    parser.add_argument("--name", required=True, help="name of the choice")
    parser.add_argument("--step", required=True, help="the step that is compared")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder to write")
    candidate_help = "an arm, a random seed and the output folder of their job; once for each"
    meta = ("ARM", "SEED", "FOLDER")
    parser.add_argument("--candidate", required=True, action="append", nargs=3, metavar=meta, help=candidate_help)
    arguments = parser.parse_args(argv)
    candidates: dict[str, dict[int, Path]] = {}
    for arm, seed, folder in arguments.candidate:
        candidates.setdefault(arm, {})[int(seed)] = Path(folder)
    try:
        print(f"{arguments.name}: {choose(arguments.name, arguments.step, candidates, arguments.output_dir)}")
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

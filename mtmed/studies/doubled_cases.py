"""No case may count twice because the data changed while a study ran."""

import itertools
from collections.abc import Mapping, Sequence

from mtmed.errors import InputError
from mtmed.studies.results import Result, Score

__all__ = ["check_doubled_cases"]


def check_doubled_cases(scores: Mapping[Result, Sequence[Score]]) -> None:
    """Require that the folds of one arm, fraction and seed share no case, or all score the same ones.

    All folds score the same cases where another data set than the trained one is scored. If some cases are in several
    folds, the data were divided otherwise when the later runs were made, and networks may have trained on them.

    Args:
        scores: scores of each run.

    Raises:
        InputError: naming the run and the case.
    """
    of_runs: dict[tuple[str, float, int], list[tuple[Result, set[str]]]] = {}
    for result, own in scores.items():
        cases = {score.case for score in own}
        of_runs.setdefault((result.arm, result.fraction, result.seed), []).append((result, cases))
    for runs in of_runs.values():
        if all(cases == runs[0][1] for _, cases in runs):
            continue
        for (one, first), (other, second) in itertools.combinations(runs, 2):
            if both := sorted(first & second):
                problem = f"scores {both[0]}, which fold {other.fold} scores too: the data changed between the runs"
                raise InputError(one.name, problem, "run the study anew, with another --output")

"""How often intervals of a mean over patients cover the true mean, and how wide they are, in simulated cohorts.

    python benchmarks/interval_coverage.py [--quick] [--cohorts 10000]

Four distributions of a patient's Dice, whose means are known: *well-behaved* Beta(36, 4); *10 % zeros* and
*3 % zeros*, of which so many are 0 and the others Beta(36, 4); *skewed* Beta(3, 0.5). With 10, 20, 50 and 100 patients,
each with one scan, or with 2 or 3: then a scan's Dice is the patient's times Beta(57, 3), so that a patient who fails
does so in all. Two further tables: the share of zeros from 0.5 to 20 % with 50 patients, and values without a known
range (differences of two arms; HD95 that is log-normal, and with 3 % of 300 mm). Methods: `interval_methods.py`. Ends
are cut to the range where it is known. Exits with 1 if mtmed's interval covers less than 93 % in one of the four with
50 patients.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.interval_methods import METHODS, NEED_BOUNDS, OURS, Cohorts, draws

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
AT_ONCE = 250
LOWEST_COVERAGE = 0.93


def body(generator: np.random.Generator, shape: tuple[int, int]) -> Array:
    return generator.beta(36, 4, shape)


def with_zeros(share: float) -> Draw:
    def drawn(generator: np.random.Generator, shape: tuple[int, int]) -> Array:
        return np.where(generator.random(shape) < share, 0.0, body(generator, shape))

    return drawn


def hd95(misses: float) -> Draw:
    def drawn(generator: np.random.Generator, shape: tuple[int, int]) -> Array:
        return np.where(generator.random(shape) < misses, 300.0, generator.lognormal(1.5, 0.8, shape))

    return drawn


HD95_MEAN = float(np.exp(1.5 + 0.8**2 / 2))
DICE: dict[str, tuple[Draw, float]] = {
    "well-behaved": (body, 0.9),
    "10 % zeros": (with_zeros(0.1), 0.9 * 0.9),
    "3 % zeros": (with_zeros(0.03), 0.97 * 0.9),
    "skewed": (lambda generator, shape: generator.beta(3, 0.5, shape), 3 / 3.5),
}
"""Distributions of a patient's Dice, and their means."""

UNBOUNDED: dict[str, tuple[Draw, float]] = {
    "difference": (lambda generator, shape: generator.normal(0.01, 0.03, shape), 0.01),
    "skewed difference": (lambda generator, shape: generator.gamma(1, 0.02, shape), 0.02),
    "HD95": (hd95(0), HD95_MEAN),
    "HD95, 3 % misses": (hd95(0.03), 0.97 * HD95_MEAN + 0.03 * 300),
}
"""Distributions of values without a known range."""


def simulated(
    draw: Draw,
    patients: int,
    cohorts: int,
    generator: np.random.Generator,
    *,
    scans: tuple[int, int] = (1, 1),
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Cohorts:
    """Cohorts whose patients have so many scans, at least and at most."""
    values = draw(generator, (patients, cohorts))
    counts = generator.integers(scans[0], scans[1] + 1, values.shape).astype(np.float64)
    if scans == (1, 1):
        return Cohorts(values, counts, bounds)
    each = generator.beta(57, 3, (scans[1], *values.shape))
    there = np.arange(scans[1])[:, None, None] < counts
    return Cohorts(values * (each * there).sum(0), counts, bounds)


def coverage(
    draw: Draw,
    true_mean: float,
    patients: int,
    *,
    cohorts: int,
    resamples: int,
    methods: Sequence[str],
    scans: tuple[int, int] = (1, 1),
    bounds: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Share of the cohorts whose interval covers the true mean, and the mean width, of each method."""
    generator = np.random.default_rng([seed, patients, scans[1]])
    drawn = draws(patients, resamples, generator)
    covered = dict.fromkeys(methods, 0)
    width = dict.fromkeys(methods, 0.0)
    for first in range(0, cohorts, AT_ONCE):
        own = simulated(draw, patients, min(AT_ONCE, cohorts - first), generator, scans=scans, bounds=bounds)
        for name in methods:
            low, high = METHODS[name](own, drawn)
            if bounds is not None:
                low, high = np.clip(low, *bounds), np.clip(high, *bounds)
            covered[name] += int(np.count_nonzero((low <= true_mean) & (true_mean <= high)))
            width[name] += float((high - low).sum())
    return {name: (covered[name] / cohorts, width[name] / cohorts) for name in methods}


def print_block(title: str, cells: dict[str, dict[str, tuple[float, float]]]) -> None:
    """A line per method, a column per cell: coverage in %, and the mean width."""
    print(f"\n{title}\n")
    print("| method |" + "".join(f" {name} |" for name in cells))
    print("|---|" + "---|" * len(cells))
    for method in next(iter(cells.values())):
        shown = (f" {100 * own[method][0]:.1f} ({own[method][1]:.3g}) |" for own in cells.values())
        print(f"| {method} |" + "".join(shown), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="show in seconds that it works")
    parser.add_argument("--cohorts", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1999)
    arguments = parser.parse_args()
    cohorts, resamples = (300, 399) if arguments.quick else (arguments.cohorts, arguments.resamples)
    print(f"{cohorts} cohorts, {resamples} resamples; coverage of the nominal 95 % interval in % (mean width)")
    worst = 1.0
    for patients in (50,) if arguments.quick else (50, 10, 20, 100):
        for scans in ((1, 1), (2, 3)):
            mean_factor = 1.0 if scans == (1, 1) else 57 / 60
            cells = {
                name: coverage(
                    draw,
                    mean * mean_factor,
                    patients,
                    cohorts=cohorts,
                    resamples=resamples,
                    methods=[*METHODS],
                    scans=scans,
                )
                for name, (draw, mean) in DICE.items()
            }
            print_block(f"{patients} patients, {'one scan' if scans == (1, 1) else '2 or 3 scans'} each", cells)
            if patients == 50:
                worst = min(worst, *(own[OURS][0] for own in cells.values()))
    shares = (0.05,) if arguments.quick else (0.005, 0.01, 0.02, 0.04, 0.05, 0.07, 0.1, 0.2)
    compared = ["t", "expanded percentile", "bootstrap-t", *NEED_BOUNDS[1:]]
    cells = {
        f"{100 * share:g} %": coverage(
            with_zeros(share), (1 - share) * 0.9, 50, cohorts=cohorts, resamples=resamples, methods=compared
        )
        for share in shares
    }
    print_block("Share of zeros, 50 patients with one scan each", cells)
    free = [name for name in METHODS if name not in NEED_BOUNDS]
    for patients in (50,) if arguments.quick else (5, 10, 20, 50):
        cells = {
            name: coverage(draw, mean, patients, cohorts=cohorts, resamples=resamples, methods=free, bounds=None)
            for name, (draw, mean) in UNBOUNDED.items()
        }
        print_block(f"Values without a known range, {patients} patients", cells)
    print(f"\nlowest coverage of '{OURS}' with 50 patients: {100 * worst:.1f} %")
    return 0 if worst >= LOWEST_COVERAGE else 1


if __name__ == "__main__":
    sys.exit(main())

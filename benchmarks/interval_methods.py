"""Intervals of a mean over patients, each for many simulated cohorts at once: those that mtmed uses and others.

A cohort is a column: sums S (patients x cohorts) of each patient's values and their numbers C of the same shape. Every
method gives the lower and the upper ends, one per cohort, at a nominal coverage of 95 %. Resamples are the same for all
cohorts, as mtmed's are for one seed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
Ends = tuple[Array, Array]
CONFIDENCE = 0.95
TAILS = (0.025, 0.975)


class Cohorts(NamedTuple):
    """Simulated cohorts.

    Attributes:
        sums: sum of each patient's values, patients x cohorts.
        counts: number of each patient's values, of the same shape.
        bounds: lowest and highest value that is possible; None if unknown.
    """

    sums: Array
    counts: Array
    bounds: tuple[float, float] | None

    @property
    def patients(self) -> int:
        """Number of patients of each cohort."""
        return len(self.sums)

    @property
    def mean(self) -> Array:
        """Mean over all values, the ratio of two sums over patients."""
        return self.sums.sum(0) / self.counts.sum(0)

    @property
    def influence(self) -> Array:
        """How far each patient draws that ratio, patients x cohorts; with one value each: value - mean."""
        return (self.sums - self.mean * self.counts) / self.counts.mean(0)

    @property
    def error(self) -> Array:
        """Standard error of the mean, from the influence of the patients."""
        return self.influence.std(0, ddof=1) / np.sqrt(self.patients)

    @property
    def skewness(self) -> Array:
        """Skewness of the influence of the patients."""
        spread = np.maximum(self.influence.std(0), 1e-12)
        return np.asarray((self.influence**3).mean(0) / spread**3)


class Draws(NamedTuple):
    """Resamples of so many patients, used for all cohorts.

    Attributes:
        often: how often each patient is drawn, resamples x patients.
        weights: those of the Bayesian bootstrap, of the same shape.
        generator: for more.
    """

    often: Array
    weights: Array
    generator: np.random.Generator


def draws(patients: int, resamples: int, generator: np.random.Generator) -> Draws:
    often = generator.multinomial(patients, np.full(patients, 1 / patients), resamples).astype(np.float64)
    return Draws(often, generator.standard_exponential((resamples, patients)), generator)


def t_quantile(cohorts: Cohorts) -> float:
    return float(stats.t.ppf(TAILS[1], cohorts.patients - 1))


def resampled_means(cohorts: Cohorts, drawn: Draws) -> Array:
    return np.asarray((drawn.often @ cohorts.sums) / (drawn.often @ cohorts.counts))


def quantiles(means: Array, tails: tuple[float, float]) -> Ends:
    low, high = np.quantile(means, tails, axis=0)
    return low, high


def student_t(cohorts: Cohorts, drawn: Draws) -> Ends:
    half = t_quantile(cohorts) * cohorts.error
    return cohorts.mean - half, cohorts.mean + half


def johnson_t(cohorts: Cohorts, drawn: Draws) -> Ends:
    """The t interval about a mean corrected for skewness (Johnson 1978)."""
    spread = cohorts.error * np.sqrt(cohorts.patients)
    centre = cohorts.mean + cohorts.skewness * spread / (6 * cohorts.patients)
    half = t_quantile(cohorts) * cohorts.error
    return centre - half, centre + half


def hall_t(cohorts: Cohorts, drawn: Draws) -> Ends:
    """The t interval after Hall's cubic transformation (1992), which can be inverted."""
    root = np.sqrt(cohorts.patients)
    bent = np.where(np.abs(cohorts.skewness) < 1e-6, 1e-6, cohorts.skewness) / root

    def inverted(quantile: float) -> Array:
        return np.asarray(3 / bent * (np.cbrt(1 + bent * (quantile - bent / 6)) - 1))

    quantile = t_quantile(cohorts)
    return cohorts.mean - cohorts.error * inverted(quantile), cohorts.mean - cohorts.error * inverted(-quantile)


def percentile(cohorts: Cohorts, drawn: Draws) -> Ends:
    return quantiles(resampled_means(cohorts, drawn), TAILS)


def expanded_percentile(cohorts: Cohorts, drawn: Draws) -> Ends:
    """The interval of mtmed without bounds (Hesterberg 2015)."""
    patients = cohorts.patients
    tail = float(stats.norm.cdf(-np.sqrt(patients / (patients - 1)) * t_quantile(cohorts)))
    return quantiles(resampled_means(cohorts, drawn), (tail, 1 - tail))


def bca(cohorts: Cohorts, drawn: Draws) -> Ends:
    """Bias-corrected and accelerated (Efron 1987), the default of ``scipy.stats.bootstrap``."""
    means = np.sort(resampled_means(cohorts, drawn), axis=0)
    resamples = len(means)
    below = (means < cohorts.mean).mean(0) + (means == cohorts.mean).mean(0) / 2
    bias = special.ndtri(np.clip(below, 1 / resamples, 1 - 1 / resamples))
    acceleration = cohorts.skewness / (6 * np.sqrt(cohorts.patients))
    ends = []
    for tail in TAILS:
        shifted = bias + special.ndtri(tail)
        share = special.ndtr(bias + shifted / (1 - acceleration * shifted))
        place = np.clip((share * resamples).astype(np.int64), 0, resamples - 1)
        ends.append(np.take_along_axis(means, place[None], 0)[0])
    return ends[0], ends[1]


def studentised(cohorts: Cohorts, drawn: Draws, *, logit: bool = False) -> Ends:
    """Bootstrap-t; with `logit` on the scale of the mean's logit, with its standard error by the delta rule."""
    total = drawn.often @ cohorts.counts
    means = (drawn.often @ cohorts.sums) / total
    squares = drawn.often @ cohorts.sums**2
    if (cohorts.counts != 1).any():
        crossed = drawn.often @ (cohorts.sums * cohorts.counts)
        squares = squares - 2 * means * crossed + means**2 * (drawn.often @ cohorts.counts**2)
    else:
        squares = squares - cohorts.patients * means**2
    patients = cohorts.patients
    errors = np.sqrt(np.maximum(squares, 0) * patients / (patients - 1)) / total
    mean, error = cohorts.mean, cohorts.error
    if logit:
        inside = np.clip(means, 1e-6, 1 - 1e-6)
        errors, means = errors / (inside * (1 - inside)), special.logit(inside)
        centre = np.clip(mean, 1e-6, 1 - 1e-6)
        mean, error = special.logit(centre), error / (centre * (1 - centre))
    with np.errstate(invalid="ignore", divide="ignore"):
        studentised_means = (means - mean) / errors
    studentised_means[~np.isfinite(studentised_means)] = 0
    low, high = quantiles(studentised_means, TAILS)
    ends = mean - high * error, mean - low * error
    return (special.expit(ends[0]), special.expit(ends[1])) if logit else ends


def logit_studentised(cohorts: Cohorts, drawn: Draws) -> Ends:
    return studentised(cohorts, drawn, logit=True)


def with_ends(at_each: float, *, both: bool) -> Callable[[Cohorts, Draws], Ends]:
    """Bayesian bootstrap with so many patients at the ends of the range.

    Args:
        at_each: number of patients at an end.
        both: both ends take part in both quantiles, as in mtmed's interval with bounds; else the lower quantile has
            patients at the lower end only and the upper one at the upper end, as in Gaffke's bound.
    """

    def interval(cohorts: Cohorts, drawn: Draws) -> Ends:
        assert cohorts.bounds is not None
        sums, counts = drawn.weights @ cohorts.sums, drawn.weights @ cohorts.counts
        average = cohorts.counts.mean(0)
        at_ends = drawn.generator.standard_gamma(at_each, (2, len(sums), 1)) * average
        shares = ((1, 1), (1, 1)) if both else ((1, 0), (0, 1))
        ends = []
        for tail, (lower, upper) in zip(TAILS, shares, strict=True):
            extra = lower * at_ends[0] * cohorts.bounds[0] + upper * at_ends[1] * cohorts.bounds[1]
            means = (sums + extra) / (counts + lower * at_ends[0] + upper * at_ends[1])
            ends.append(np.quantile(means, tail, axis=0))
        return np.minimum(ends[0], cohorts.mean), np.maximum(ends[1], cohorts.mean)

    return interval


def empirical_likelihood(cohorts: Cohorts, drawn: Draws) -> Ends:
    """Owen's (1988), with the quantile of F(1, n - 1) in place of chi squared; ends by bisection."""
    limit = float(stats.f.ppf(CONFIDENCE, 1, cohorts.patients - 1))
    values = cohorts.influence + cohorts.mean
    ends = []
    for outermost in (values.min(0), values.max(0)):
        inside, outside = cohorts.mean, outermost
        for _ in range(30):
            middle = (inside + outside) / 2
            kept = _minus_two_log_ratio(values - middle) <= limit
            inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def _minus_two_log_ratio(apart: Array) -> Array:
    """-2 log R of a mean of 0: minus twice the sum of the logarithms at the multiplier that makes the scores vanish."""
    lowest, highest = apart.min(0), apart.max(0)
    within = (lowest < 0) & (highest > 0)
    low = np.where(within, -1 / np.where(within, highest, 1), 0)
    high = np.where(within, -1 / np.where(within, lowest, 1), 0)
    for _ in range(40):
        middle = (low + high) / 2
        rising = (apart / (1 + middle * apart)).sum(0) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 2 * np.log1p((low + high) / 2 * apart).sum(0)
    return np.where(within, ratio, np.where(np.ptp(apart, axis=0) > 0, np.inf, 0))


OURS = "half a patient at each end"
OURS_UNBOUNDED = "expanded percentile"

METHODS: dict[str, Callable[[Cohorts, Draws], Ends]] = {
    "t": student_t,
    "t, Johnson": johnson_t,
    "t, Hall": hall_t,
    "percentile": percentile,
    OURS_UNBOUNDED: expanded_percentile,
    "BCa": bca,
    "bootstrap-t": studentised,
    "bootstrap-t of the logit": logit_studentised,
    "empirical likelihood": empirical_likelihood,
    "Bayesian, 1/4 patient at each end": with_ends(0.25, both=True),
    OURS: with_ends(0.5, both=True),
    "Gaffke's bounds": with_ends(1.0, both=False),
}
"""By name."""

NEED_BOUNDS = ("bootstrap-t of the logit", "Bayesian, 1/4 patient at each end", OURS, "Gaffke's bounds")
"""Methods that need to know the range."""

"""Fair timing of variants of the same work: alternating rounds, medians with spread, one table, agreement checked.

The machine's speed drifts, so variants are timed in turn, the order is reversed every other round, and ratios are taken
within a round. A table may have a column "agreement": its cells come from `agreement`, and `exit_status` turns a cell
that says that the variants disagree into exit status 1, since a ratio between unequal results means nothing.
"""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["agreement", "compare", "exit_status", "machine", "print_table", "ratio", "seconds_text", "spread_text"]

_DISAGREES = "DISAGREES"
_disagreements: list[str] = []


def compare(
    variants: Mapping[str, Callable[[], object]], *, rounds: int = 5, warmup: int = 1
) -> dict[str, list[float]]:
    """Time variants in alternating rounds.

    Args:
        variants: name to a call without arguments; its result is dropped. A call that starts work on a GPU must wait
            for it (``torch.cuda.synchronize``) itself.
        rounds: timed rounds; in each one every variant runs once, in reversed order in every other round.
        warmup: untimed rounds before.

    Returns:
        Seconds per round for each variant, entry k of every list being from the same round.
    """
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(-warmup, rounds):
        for name in names if index % 2 == 0 else names[::-1]:
            gc.collect()
            start = time.perf_counter()
            result = variants[name]()
            elapsed = time.perf_counter() - start
            del result
            if index >= 0:
                seconds[name].append(elapsed)
    return seconds


def ratio(base: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """How many times faster `ours` is than `base`: median, smallest and largest of the ratios within a round."""
    ratios = [slow / fast for slow, fast in zip(base, ours, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def seconds_text(seconds: Sequence[float]) -> str:
    """Median with smallest and largest, in ms below 10 s: ``"12.3 ms (11.9-14.0)"``."""
    scale, unit = (1e3, "ms") if statistics.median(seconds) < 10 else (1.0, "s")
    middle, low, high = (scale * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{middle:.3g} {unit} ({low:.3g}-{high:.3g})"


def spread_text(values: tuple[float, float, float]) -> str:
    """A ratio with its spread: ``"7.0x (6.6-7.4)"``."""
    middle, low, high = values
    return f"{middle:.3g}x ({low:.3g}-{high:.3g})"


def agreement(difference: float, limit: float, what: str = "") -> str:
    """Cell for the column "agreement"; a difference above `limit` (or NaN) makes `exit_status` return 1.

    Args:
        difference: measured disagreement of the results, for example a relative error.
        limit: largest difference at which the results count as the same.
        what: name of the quantity.
    """
    text = f"{what + ' ' if what else ''}{difference:.1e} <= {limit:.0e}"
    if difference <= limit:
        return text
    text = f"{_DISAGREES}: {text.replace('<=', '>')}"
    _disagreements.append(text)
    return text


def exit_status() -> int:
    """1 if any `agreement` failed so far, otherwise 0: for ``sys.exit``."""
    return 1 if _disagreements else 0


def machine() -> str:
    """One line on the machine: processor count, system, and load (a loaded machine makes ratios noisy)."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return f"{os.cpu_count()} CPUs, {platform.machine()} {platform.system()}, load (1, 5, 15 min): {load}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with a title line, columns padded so that it reads well in a terminal too."""
    lines = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    print(f"\n{title}\n")
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)

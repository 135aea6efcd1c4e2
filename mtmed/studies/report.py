"""The report of a study: tables as CSV, JSON, Markdown and text, pictures, and one HTML page that holds it all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder
from mtmed.metrics.names import METRIC_NAMES
from mtmed.metrics.tables import write_json, write_rows
from mtmed.studies.choice_report import CHOICE_RULE, ChoiceResult, choice_table, choice_values
from mtmed.studies.comparison import Comparison
from mtmed.studies.convergence_report import Convergence, study_convergence
from mtmed.studies.convergence_values import convergence_values
from mtmed.studies.dice_curves import read_dice_curves
from mtmed.studies.numbers import interval_text, number_text, p_text
from mtmed.studies.pictures import draw_pictures
from mtmed.studies.pooled_report import POOLED_NAMES, POOLED_RULE, PooledRow, pooled_rows, pooled_table, pooled_values
from mtmed.studies.protocol import protocol_lines, study_protocol
from mtmed.studies.report_formats import Block, html_page, markdown, plain_text
from mtmed.studies.results import Result
from mtmed.studies.table import RULES, StudyTable, study_table, table_values
from mtmed.studies.tensorboard import CURVES, write_dice_events

__all__ = ["write_report"]


def write_report(
    results: Sequence[Result],
    *,
    title: str,
    metrics: Sequence[str],
    organs: Sequence[str] | None = None,
    reference_arm: str | None = None,
    compare: Sequence[tuple[str, str]] = (),
    pooled: Sequence[str] = (),
    pictured: Sequence[str] = (),
    choices: Sequence[ChoiceResult] = (),
    output_dir: str | Path,
) -> str:
    """Compare the arms of a study and write everything that there is to say.

    Writes ``table.csv`` (a row per metric, organ, fraction and arm), ``comparisons.csv`` (a row per pair of arms),
    ``table.json`` (both), ``table.md``, ``report.html`` (self-contained) and the PNGs of
    `mtmed.studies.pictures.draw_pictures`. Where trainings recorded validation Dice, its curves for TensorBoard in
    ``curves/``; with a reference arm also how soon each run comes to that arm's final Dice, in ``convergence.csv`` (a
    row per run) and ``table.json``. With choices ``choices.csv``, a row per choice, fold, fraction and arm; with pooled
    numbers ``pooled.csv``, a row per entry, organ, fraction and arm; both are in ``table.json`` too. Runs without
    scores are left out of all numbers and named; so are pictures that cannot be drawn. How it was measured (split,
    folds, tolerances ...) is what the evaluations state themselves.

    Args:
        results: all runs that the study plans, whatever their state.
        title: heading of the report.
        metrics: columns of ``scores.csv``.
        organs: organs to report; None for all.
        reference_arm: the arm that all others are compared with; None compares every pair.
        compare: pairs of arms that the study is about, tested as a family of their own before all others.
        pooled: entries of the evaluations' ``summary.json`` that have a value and an interval per organ.
        pictured: the arms that curves and cases are drawn of, beside the reference arm; none: all.
        choices: what was chosen among arms.
        output_dir: folder for the files.

    Returns:
        The tables in plain text.

    Raises:
        InputError: if there are no runs, an arm, organ, metric or entry is not there, scores cannot be read or the
            folder cannot be written.
    """
    if not results:
        raise InputError(title, "has no runs", "give the study at least one arm, fold, fraction and seed")
    table = study_table(results, metrics=metrics, organs=organs, reference_arm=reference_arm, compare=compare)
    together = pooled_rows(results, pooled, organs)
    folder = require_writable_folder(output_dir)
    common, differing = study_protocol(results)
    dice = read_dice_curves(results)
    convergence = study_convergence(results, dice, reference_arm=reference_arm)
    drawn = [result for result in results if not pictured or result.arm in (*pictured, reference_arm)]
    pictures = draw_pictures(drawn, folder, organs=organs, reference_arm=reference_arm, dice=dice)
    blocks = [*_blocks(table, _pooled(together)), *_chosen(choices)]
    if convergence is not None:
        blocks += _soon(convergence)
    if common or differing:
        blocks.append(Block("How it was measured", lines=protocol_lines(common, differing)))
    if lost := [picture.caption for picture in pictures if picture.path is None] + list(dice.unreadable):
        blocks.append(Block("Not drawn", lines=lost))
    values = table_values(table)
    soon = None if convergence is None else convergence_values(convergence)
    protocol = {"same": common, "differs": differing}
    listed = {"pooled": pooled_values(together), "choices": choice_values(choices)}
    write_json(folder / "table.json", {"title": title, **values, **listed, "convergence": soon, "protocol": protocol})
    tables = {"table": values["rows"], "comparisons": values["comparisons"], **listed}
    tables["convergence"] = soon["runs"] if soon else []
    for name, rows in ((f"{stem}.csv", rows) for stem, rows in tables.items()):
        if rows:
            write_rows(folder / name, [_flat(row) for row in rows])
        else:
            (folder / name).unlink(missing_ok=True)
    _write(folder / "table.md", markdown(title, blocks))
    _write(folder / "report.html", html_page(title, blocks, pictures))
    write_dice_events(dice, folder / CURVES)
    return plain_text(title, blocks)


def _blocks(table: StudyTable, pooled: Sequence[Block]) -> list[Block]:
    scored = table.runs - len(table.failed) - len(table.missing)
    lines = [f"{scored} of {table.runs} runs have scores."]
    lines += [f"failed: {name}" for name in table.failed] + [f"missing: {name}" for name in table.missing]
    blocks = [Block("Runs", lines=lines)]
    blocks += [_means(table, metric) for metric in table.metrics if table.rows]
    blocks += pooled
    planned = [one for one in table.comparisons if one.planned]
    others = [one for one in table.comparisons if not one.planned]
    if planned:
        blocks.append(_comparisons("Planned comparisons on the same patients", planned))
    if others:
        blocks.append(
            _comparisons("Further paired comparisons" if planned else "Paired comparisons on the same patients", others)
        )
    return [*blocks, Block("How the numbers are made", lines=[f"{key}: {rule}" for key, rule in RULES.items()])]


def _means(table: StudyTable, metric: str) -> Block:
    rows = [row for row in table.rows if row.metric == metric]
    digits = _digits(metric)
    header = ["organ", "labels", "arm", "mean (95 % interval)", *(f"fold {fold}" for fold in table.folds)]
    header += ["cases", "patients", "undefined", "runs"]
    cells = [
        [
            row.organ,
            f"{row.fraction:g} %",
            row.arm,
            interval_text(row.interval, digits),
            *(number_text(mean, digits) for mean in row.folds.values()),
            *(str(count) for count in (row.cases, row.patients, row.undefined)),
            f"{row.finished} of {row.planned}",
        ]
        for row in rows
    ]
    return Block(_called(metric), header, cells)


def _comparisons(title: str, comparisons: Sequence[Comparison]) -> Block:
    header = ["metric", "organ", "labels", "arms", "difference (95 % interval)", "patients", "unpaired"]
    header += ["p", "smallest p", "p (Holm)", "smallest p (Holm)", "tests", "result"]
    cells = [
        [
            _called(one.metric),
            one.organ,
            f"{one.fraction:g} %",
            f"{one.arm} − {one.against}",
            interval_text(one.test.difference, _digits(one.metric), sign=True),
            str(one.test.difference.groups),
            str(one.test.unpaired),
            *(p_text(p) for p in (one.test.p, one.test.smallest_p, one.p_holm, one.smallest_p_holm)),
            str(one.family),
            one.verdict,
        ]
        for one in comparisons
    ]
    return Block(title, header, cells)


def _soon(convergence: Convergence) -> list[Block]:
    means, comparisons = convergence.arm_table(), convergence.comparison_table()
    blocks = [Block("How soon", *means, lines=convergence.notes())]
    if convergence.comparisons:
        blocks.append(Block("How soon: paired comparisons of the runs", *comparisons))
    return [*blocks, Block("How soon: how the numbers are made", lines=convergence.rules())]


def _pooled(rows: Sequence[PooledRow]) -> list[Block]:
    entries = dict.fromkeys(row.entry for row in rows)
    return [
        Block(
            f"{POOLED_NAMES.get(entry, _called(entry))}, of all cases together", *pooled_table(own), lines=[POOLED_RULE]
        )
        for entry in entries
        if (own := [row for row in rows if row.entry == entry])
    ]


def _chosen(choices: Sequence[ChoiceResult]) -> list[Block]:
    if not choices:
        return []
    blocks = [Block("Choices", lines=[CHOICE_RULE])]
    for name in dict.fromkeys(one.name for one in choices):
        own = [one for one in choices if one.name == name]
        blocks.append(Block(f"Choice: {own[0].title}", *choice_table(own)))
    return blocks


def _called(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def _digits(metric: str) -> int:
    """Decimals of a metric: 1 for millimetres, 3 for all others."""
    return 1 if "(mm)" in _called(metric) else 3


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a column per fold, and per random seed."""
    plain = {key: value for key, value in row.items() if key not in ("folds", "seeds")}
    plain |= {f"fold_{fold}": mean for fold, mean in row.get("folds", {}).items()}
    return plain | {f"seed_{seed}": value for seed, value in row.get("seeds", {}).items()}


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())

"""The report of a study: tables as CSV, JSON, Markdown and text, pictures, and one HTML page that holds it all."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder
from mtmed.metrics.names import METRIC_NAMES
from mtmed.metrics.tables import aligned_table, write_json, write_rows
from mtmed.studies.convergence_report import Convergence, study_convergence
from mtmed.studies.convergence_values import convergence_values
from mtmed.studies.dice_curves import read_dice_curves
from mtmed.studies.numbers import interval_text, number_text, p_text
from mtmed.studies.pictures import Picture, draw_pictures
from mtmed.studies.protocol import protocol_lines, study_protocol
from mtmed.studies.results import Result
from mtmed.studies.table import RULES, StudyTable, study_table, table_values
from mtmed.studies.tensorboard import CURVES, write_dice_events

__all__ = ["write_report"]

_STYLE = """body{font-family:sans-serif;margin:2em;max-width:100em}table{border-collapse:collapse;margin:.5em 0 1.5em}
th,td{border-bottom:1px solid #ccc;padding:.2em .8em;text-align:left;white-space:nowrap}img{max-width:100%}"""


@dataclass(frozen=True)
class _Block:
    """A table in words, or lines of text: what every format of the report is made from."""

    heading: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()


def write_report(
    results: Sequence[Result],
    *,
    title: str,
    metrics: Sequence[str],
    organs: Sequence[str] | None = None,
    reference_arm: str | None = None,
    output_dir: str | Path,
) -> str:
    """Compare the arms of a study and write everything that there is to say.

    Writes ``table.csv`` (a row per metric, organ, fraction and arm), ``comparisons.csv`` (a row per pair of arms),
    ``table.json`` (both), ``table.md``, ``report.html`` (self-contained) and the PNGs of
    `mtmed.studies.pictures.draw_pictures`. Where trainings recorded validation Dice, its curves for TensorBoard in
    ``curves/``; with a reference arm also how soon each run comes to that arm's final Dice, in ``convergence.csv`` (a
    row per run) and ``table.json``. Runs without scores are left out of all numbers and named; so are pictures that
    cannot be drawn. How it was measured (split, folds, tolerances ...) is what the evaluations state themselves.

    Args:
        results: all runs that the study plans, whatever their state.
        title: heading of the report.
        metrics: columns of ``scores.csv``.
        organs: organs to report; None for all.
        reference_arm: the arm that all others are compared with; None compares every pair.
        output_dir: folder for the files.

    Returns:
        The tables in plain text.

    Raises:
        InputError: if there are no runs, an arm, organ or metric is not there, scores cannot be read or the folder
            cannot be written.
    """
    if not results:
        raise InputError(title, "has no runs", "give the study at least one arm, fold, fraction and seed")
    table = study_table(results, metrics=metrics, organs=organs, reference_arm=reference_arm)
    folder = require_writable_folder(output_dir)
    common, differing = study_protocol(results)
    dice = read_dice_curves(results)
    convergence = study_convergence(results, dice, reference_arm=reference_arm)
    pictures = draw_pictures(results, folder, organs=organs, reference_arm=reference_arm, dice=dice)
    blocks = _blocks(table)
    if convergence is not None:
        blocks += _soon(convergence)
    if common or differing:
        blocks.append(_Block("How it was measured", lines=protocol_lines(common, differing)))
    if lost := [picture.caption for picture in pictures if picture.path is None] + list(dice.unreadable):
        blocks.append(_Block("Not drawn", lines=lost))
    values = table_values(table)
    soon = None if convergence is None else convergence_values(convergence)
    protocol = {"same": common, "differs": differing}
    write_json(folder / "table.json", {"title": title, **values, "convergence": soon, "protocol": protocol})
    tables = {"table": values["rows"], "comparisons": values["comparisons"], "convergence": soon and soon["runs"]}
    for name, rows in ((f"{stem}.csv", rows) for stem, rows in tables.items()):
        if rows:
            write_rows(folder / name, [_flat(row) for row in rows])
        else:
            (folder / name).unlink(missing_ok=True)
    _write(folder / "table.md", _markdown(title, blocks))
    _write(folder / "report.html", _html(title, blocks, pictures))
    write_dice_events(dice, folder / CURVES)
    return _plain(title, blocks)


def _blocks(table: StudyTable) -> list[_Block]:
    scored = table.runs - len(table.failed) - len(table.missing)
    lines = [f"{scored} of {table.runs} runs have scores."]
    lines += [f"failed: {name}" for name in table.failed] + [f"missing: {name}" for name in table.missing]
    blocks = [_Block("Runs", lines=lines)]
    blocks += [_means(table, metric) for metric in table.metrics if table.rows]
    if table.comparisons:
        blocks.append(_comparisons(table))
    return [*blocks, _Block("How the numbers are made", lines=[f"{key}: {rule}" for key, rule in RULES.items()])]


def _means(table: StudyTable, metric: str) -> _Block:
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
    return _Block(_called(metric), header, cells)


def _comparisons(table: StudyTable) -> _Block:
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
        for one in table.comparisons
    ]
    return _Block("Paired comparisons on the same patients", header, cells)


def _soon(convergence: Convergence) -> list[_Block]:
    means, comparisons = convergence.arm_table(), convergence.comparison_table()
    blocks = [_Block("How soon", *means, lines=convergence.notes())]
    if convergence.comparisons:
        blocks.append(_Block("How soon: paired comparisons of the runs", *comparisons))
    return [*blocks, _Block("How soon: how the numbers are made", lines=convergence.rules())]


def _called(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def _digits(metric: str) -> int:
    """Decimals of a metric: 1 for millimetres, 3 for all others."""
    return 1 if "(mm)" in _called(metric) else 3


def _plain(title: str, blocks: Sequence[_Block]) -> str:
    parts = [title]
    for block in blocks:
        lines = list(block.lines)
        if block.header:
            lines.append(aligned_table([block.header, *block.rows]))
        parts.append("\n".join([block.heading, *lines]))
    return "\n\n".join(parts)


def _markdown(title: str, blocks: Sequence[_Block]) -> str:
    parts = [f"# {title}"]
    for block in blocks:
        lines = [f"- {line}" for line in block.lines]
        if block.header:
            grid = [block.header, ["---"] * len(block.header), *block.rows]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in grid]
        parts += [f"## {block.heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _html(title: str, blocks: Sequence[_Block], pictures: Sequence[Picture]) -> str:
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for block in blocks:
        parts.append(f"<h2>{html.escape(block.heading)}</h2>")
        if block.lines:
            parts.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in block.lines) + "</ul>")
        if block.header:
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.header)
            body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in block.rows]
            parts.append(f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>")
    for picture in pictures:
        if picture.path is None:
            continue
        data = base64.b64encode(picture.path.read_bytes()).decode()
        caption = html.escape(picture.caption)
        parts.append(f'<h2>{caption}</h2><img alt="{caption}" src="data:image/png;base64,{data}">')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a column per fold."""
    plain = {key: value for key, value in row.items() if key != "folds"}
    return plain | {f"fold_{fold}": mean for fold, mean in row.get("folds", {}).items()}


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())

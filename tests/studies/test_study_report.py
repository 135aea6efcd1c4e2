"""The files and the text of a study's report."""

import csv
import html.parser
import json

import pytest
from finished_runs import block, run_with_scores, run_without_scores, write_case, write_training

from mtmed.errors import InputError
from mtmed.studies.report import write_report
from mtmed.studies.results import Result


def _results(folder, patients=6):
    results = []
    for arm, gain in (("scratch", 0.0), ("mixcl <b>", 0.1)):
        rows = [
            (f"{p}", f"{p}", organ, 0.5 + 0.03 * p + gain, 10.0 + p)
            for p in range(patients)
            for organ in ("liver", "spleen")
        ]
        run = run_with_scores(folder / arm[:5], arm, [*rows, ("x", "0", "liver", None, None)])
        write_case(run.evaluation, "1", *block(), {"liver": (2, 7)})
        training = write_training(folder / arm[:5] / "training", [2.0, 1.0], {2: 0.5})
        results.append(Result(arm, 0, 100.0, 0, "finished", training, run.evaluation))
    return [
        *results,
        run_without_scores("scratch", "failed", fold=1),
        run_without_scores("mixcl <b>", "missing", fold=1),
    ]


def test_text_says_what_was_compared_and_what_is_missing(tmp_path):
    text = write_report(_results(tmp_path), title="Two arms", metrics=["dice", "hd95"], output_dir=tmp_path / "report")
    lines = text.splitlines()
    assert lines[0] == "Two arms"
    assert "2 of 4 runs have scores." in lines
    assert "failed: scratch, 100 %, fold 1, seed 0" in lines
    assert "missing: mixcl <b>, 100 %, fold 1, seed 0" in lines
    dice = lines[lines.index("Dice") + 1 : lines.index("HD95 (mm)") - 1]
    header = "organ labels arm mean (95 % interval) fold 0 fold 1 cases patients undefined runs"
    assert " ".join(dice[0].split()) == header
    assert dice[1].split()[:4] == ["liver", "100", "%", "scratch"]
    assert "0.575 (0.4" in dice[1]
    assert dice[1].split()[-6:] == ["7", "6", "1", "1", "of", "2"]
    assert [line.split()[0] for line in dice[1:]] == ["liver", "liver", "spleen", "spleen", "all", "all"]
    assert "12.5 (" in lines[lines.index("HD95 (mm)") + 2]
    pair = next(line for line in lines if line.startswith("Dice") and "mixcl <b> − scratch" in line)
    assert "+0.100 (+0.100 to +0.100)" in pair
    assert "0.0312" in pair
    assert pair.endswith("runs missing")
    overall = next(line for line in lines if line.startswith("Dice") and " all " in line)
    assert overall.endswith("runs missing")
    assert any(line.startswith("p (Holm): ") for line in lines)


def test_files_hold_the_same_numbers(tmp_path):
    write_report(_results(tmp_path), title="Two arms", metrics=["dice"], output_dir=tmp_path / "report")
    values = json.loads((tmp_path / "report" / "table.json").read_text())
    with open(tmp_path / "report" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(tmp_path / "report" / "comparisons.csv", newline="") as file:
        comparisons = list(csv.DictReader(file))
    assert values["title"] == "Two arms"
    assert len(rows) == len(values["rows"]) == 6
    for flat, row in zip(rows, values["rows"], strict=True):
        assert float(flat["mean"]) == row["mean"]
        assert float(flat["fold_0"]) == row["folds"]["0"]
        assert flat["fold_1"] == ""
    assert [float(one["p_holm"]) for one in comparisons] == [one["p_holm"] for one in values["comparisons"]]
    markdown = (tmp_path / "report" / "table.md").read_text().splitlines()
    assert markdown[0] == "# Two arms"
    table = [line for line in markdown if line.startswith("|")]
    assert len({line.count("|") for line in table[:8]}) == 1
    assert "| liver | 100 % | scratch |" in table[2]


def test_page_is_self_contained_and_escapes_names(tmp_path):
    write_report(_results(tmp_path), title="A < B", metrics=["dice"], output_dir=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    tags = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append((tag, dict(attrs)))

    Reader().feed(page)
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert not any("href" in attributes or tag in ("script", "link", "b") for tag, attributes in tags)
    assert "mixcl &lt;b&gt;" in page
    assert "<h1>A &lt; B</h1>" in page


def test_study_without_any_finished_run_says_what_is_missing(tmp_path):
    results = [run_without_scores("a", "missing"), run_without_scores("b", "failed")]
    text = write_report(results, title="Early", metrics=["dice"], output_dir=tmp_path)
    assert "0 of 2 runs have scores." in text
    assert "failed: b, 100 %, fold 0, seed 0" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "table.json", "table.md"]
    with pytest.raises(InputError, match="has no runs"):
        write_report([], title="None", metrics=["dice"], output_dir=tmp_path)


def test_split_and_protocol_of_the_runs_are_stated_and_what_differs_is_named(tmp_path):
    results = _results(tmp_path)
    for number, result in enumerate(run for run in results if run.evaluation is not None):
        protocol = {
            "split": "by patient",
            "both_empty": {"dice": 1},
            "variant": f"v{number}",
            "checkpoint": number,
            "interval": "its own",
        }
        (result.evaluation / "summary.json").write_text(json.dumps({"protocol": protocol}))
    lines = write_report(results, title="Two arms", metrics=["dice"], output_dir=tmp_path / "report").splitlines()
    start = lines.index("How it was measured")
    assert lines[start + 1 : start + 4] == [
        "split: by patient",
        "both empty: dice: 1",
        "variant differs between the runs: v0; v1",
    ]
    assert "by patient" in (tmp_path / "report" / "report.html").read_text()
    values = json.loads((tmp_path / "report" / "table.json").read_text())
    assert values["protocol"]["differs"] == {"variant": ["v0", "v1"]}


def test_a_picture_that_cannot_be_drawn_does_not_cost_the_report(tmp_path):
    results = _results(tmp_path)
    for result in results:
        if result.evaluation is not None:
            (result.evaluation / "1_image.nii.gz").write_bytes(b"damaged")
    text = write_report(results, title="Two arms", metrics=["dice"], output_dir=tmp_path / "report")
    assert "case demo/1 with 100 % of the labels: cannot be drawn (" in text
    assert "cannot be drawn" in (tmp_path / "report" / "report.html").read_text()


def test_how_soon_is_in_all_formats_if_there_is_a_reference_arm(tmp_path):
    results, folder = _results(tmp_path), tmp_path / "report"
    for result in results[:2]:
        (result.training / "config.json").write_text('{"iterations_per_epoch": 2}')
    text = write_report(results, title="Two", metrics=["dice"], reference_arm="scratch", output_dir=folder)
    lines = text.splitlines()
    start = lines.index("How soon")
    assert lines[start + 1] == "averaged with 100 % of the labels: each single validation"
    assert " ".join(lines[start + 4].split()) == "100 % mixcl <b> 1 of 2 0.500 0.500 1.0 1.0 1 of 1"
    assert "How soon: paired comparisons of the runs" in lines
    assert any(line.startswith("epochs to the reference's final Dice") and "runs missing" in line for line in lines)
    assert any("Runs of one fold share their cases" in line for line in lines)
    assert "## How soon\n" in (folder / "table.md").read_text()
    assert "<h2>How soon</h2>" in (folder / "report.html").read_text()
    with open(folder / "convergence.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = json.loads((folder / "table.json").read_text())["convergence"]
    assert [row["arm"] for row in rows] == [row["arm"] for row in values["runs"]] == ["scratch", "mixcl <b>"]
    assert [(row["epochs_to_reference_smoothed"], row["status_smoothed"]) for row in rows] == [("1.0", "reached")] * 2
    assert sorted(path.name for path in (folder / "curves").iterdir()) == ["mixcl_b_-100%", "scratch-100%"]

    text = write_report(results, title="Two", metrics=["dice"], output_dir=folder)
    assert "How soon" not in text
    assert json.loads((folder / "table.json").read_text())["convergence"] is None
    assert not (folder / "convergence.csv").exists()
    assert (folder / "curves" / "scratch-100%").is_dir()


def test_pictures_are_of_the_arms_that_are_named_and_of_the_reference_arm(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("mtmed.studies.report.draw_pictures", lambda results, *_, **__: drawn.append(results) or [])
    results = _results(tmp_path)
    for pictured, reference in (((), None), (("mixcl <b>",), None), (("mixcl <b>",), "scratch")):
        write_report(
            results,
            title="Two arms",
            metrics=["dice"],
            pictured=pictured,
            reference_arm=reference,
            output_dir=tmp_path / "report",
        )
    both = {"scratch", "mixcl <b>"}
    assert [{result.arm for result in shown} for shown in drawn] == [both, {"mixcl <b>"}, both]

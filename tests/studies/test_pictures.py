"""Which cases and runs are shown, and the files."""

import json

import matplotlib.image
import numpy as np
import pytest
from finished_runs import block, run_without_scores, write_case, write_scores, write_training
from matplotlib.figure import Figure
from PIL import Image

from mtmed.studies import pictures
from mtmed.studies.pictures import draw_pictures
from mtmed.studies.results import Result

DICE = {"p": 0.5, "q": 0.9, "r": 0.1, "s": 0.7}


def _run(folder, arm, cases, *, seed=0, fold=0, fraction=100.0, gain=0.0):
    place = folder / f"{arm}-{fold}-{fraction:g}-{seed}"
    rows = [(case, case, "liver", None if case == "t" else DICE[case] + gain, 1.0) for case in cases]
    write_scores(place / "evaluation", rows)
    for case in cases:
        write_case(place / "evaluation", case, *block(), {"liver": (2, 7)})
    write_training(place / "training", [2.0, 1.0], {2: 0.5})
    return Result(arm, fold, fraction, seed, "finished", place / "training", place / "evaluation")


@pytest.fixture
def shown(monkeypatch):
    """Rows that reach the figure, by title."""
    rows = {}

    def listening(cases, arms, organs, *, title, zoom=False):
        rows[title] = cases
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(pictures, "case_figure", listening)
    monkeypatch.setattr(pictures, "curve_figure", lambda *_, **__: Figure(figsize=(1, 1)))
    return rows


def test_curves_and_cases_of_each_fraction_are_written_whole(tmp_path):
    results = [_run(tmp_path, "a", DICE, fraction=fraction) for fraction in (12.5, 100.0)]
    (tmp_path / "out").mkdir()
    written = draw_pictures(results, tmp_path / "out")
    files = [
        f"{kind}.png" for part in ("12.5", "100") for kind in (f"curves_{part}", f"cases_{part}", f"cases_{part}_zoom")
    ]
    assert [picture.path.name for picture in written] == files
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(files)
    assert all(matplotlib.image.imread(picture.path)[..., :3].std() > 0 for picture in written)
    assert all("% of the labels" in picture.caption for picture in written)


def test_pictures_are_the_same_every_time(tmp_path):
    results = [_run(tmp_path, arm, ["p"]) for arm in "ab"]
    bytes_of = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        bytes_of.append([picture.path.read_bytes() for picture in draw_pictures(results, tmp_path / name)])
    assert bytes_of[0] == bytes_of[1]


def test_worst_median_and_best_of_the_reference_arm(tmp_path, shown):
    results = [_run(tmp_path, "a", DICE), _run(tmp_path, "b", DICE, gain=0.05)]
    draw_pictures(results, tmp_path, reference_arm="b")
    rows = shown["Cases with 100 % of the labels"]
    assert [row.heading.split("\n")[0] for row in rows] == ["worst: demo/r", "median: demo/s", "best: demo/q"]
    assert rows[0].dice == {"a": "Dice 0.10", "b": "Dice 0.15"}


def test_cases_that_all_arms_have_come_first_and_undefined_dice_is_passed_over(tmp_path, shown):
    results = [
        _run(tmp_path, "a", [*DICE, "t"]),
        _run(tmp_path, "b", ["p", "t"]),
        run_without_scores("c", "missing"),
    ]
    draw_pictures(results, tmp_path)
    assert [row.heading.split("\n")[0] for row in shown["Cases with 100 % of the labels"]] == ["only: demo/p"]
    apart = [_run(tmp_path / "apart", "a", ["p", "q"]), _run(tmp_path / "apart", "b", ["r"])]
    draw_pictures(apart, tmp_path)
    rows = shown["Cases with 100 % of the labels"]
    assert [(row.heading.split("\n")[0], list(row.predictions)) for row in rows] == [
        ("worst: demo/p", ["a"]),
        ("best: demo/q", ["a"]),
    ]


def test_first_seed_that_scored_the_case_is_shown(tmp_path, shown):
    results = [
        _run(tmp_path, "a", ["p"], seed=2, gain=0.2),
        _run(tmp_path, "a", ["p"], seed=1, gain=0.1),
        _run(tmp_path, "a", ["q"], seed=0),
    ]
    draw_pictures(results, tmp_path)
    assert shown["Cases with 100 % of the labels"][0].dice == {"a": "Dice 0.60"}


def test_cases_whose_files_are_gone_are_passed_over(tmp_path, shown):
    run = _run(tmp_path, "a", DICE)
    (run.evaluation / "predictions" / "demo_r_seg.nii.gz").unlink()
    draw_pictures([run], tmp_path)
    assert shown["Cases with 100 % of the labels"][0].heading.startswith("worst: demo/p")
    (run.evaluation / "cases.json").unlink()
    assert [picture.path.name for picture in draw_pictures([run], tmp_path)] == ["curves_100.png"]


def test_nothing_is_drawn_of_runs_that_are_not_finished(tmp_path):
    run = _run(tmp_path, "a", DICE)
    failed = Result("a", 0, 100.0, 0, "failed", run.training, run.evaluation)
    (tmp_path / "out").mkdir()
    assert draw_pictures([failed, run_without_scores("b", "missing")], tmp_path / "out") == []
    assert list((tmp_path / "out").iterdir()) == []


def test_arms_that_are_not_planned_at_a_fraction_have_no_column(tmp_path, monkeypatch):
    columns = []

    def listening(cases, arms, organs, *, title, zoom):
        columns.append((title, arms))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(pictures, "case_figure", listening)
    results = [
        _run(tmp_path, "a", ["p"]),
        run_without_scores("b", "missing"),
        run_without_scores("c", "missing", fraction=5.0),
    ]
    draw_pictures(results, tmp_path, reference_arm="c")
    assert columns == [("Cases with 100 % of the labels", ["a", "b"])] * 2


def test_organs_that_are_asked_for_are_outlined(tmp_path, shown):
    run = _run(tmp_path, "a", ["p"])
    draw_pictures([run], tmp_path, organs=["liver"])
    assert np.unique(shown["Cases with 100 % of the labels"][0].reference).tolist() == [0, 1]


def test_a_case_that_cannot_be_drawn_is_named_and_the_others_are_drawn(tmp_path, shown):
    run = _run(tmp_path, "a", DICE)
    (run.evaluation / "r_image.nii.gz").write_bytes(b"damaged")
    written = draw_pictures([run], tmp_path)
    assert [row.heading.split("\n")[0] for row in shown["Cases with 100 % of the labels"]] == [
        "median: demo/s",
        "best: demo/q",
    ]
    (lost,) = [picture.caption for picture in written if picture.path is None]
    assert lost.startswith("case demo/r with 100 % of the labels: cannot be drawn (")
    (run.evaluation / "cases.json").write_text("{")
    curves, cases = draw_pictures([run], tmp_path)
    assert curves.path is not None
    assert cases.caption.startswith("cases with 100 % of the labels: cannot be drawn (")


def test_a_case_whose_image_is_a_folder_of_slices_is_drawn(tmp_path, shown):
    run = _run(tmp_path, "a", ["p"])
    image, *maps, _ = block()
    scans = tmp_path / "case1_day0" / "scans"
    scans.mkdir(parents=True)
    for index in range(image.shape[2]):
        Image.fromarray(image[:, :, index].T.astype(np.uint8)).save(
            scans / f"slice_{index + 1:04d}_12_10_1.50_1.50.png"
        )
    write_case(run.evaluation, "p", image, *maps, np.diag([-1.5, -1.5, 3.0, 1.0]), {"liver": ([2, 3], [7, 8])})
    listed = run.evaluation / "cases.json"
    entries = json.loads(listed.read_text())
    entries["demo/p"]["image"] = str(scans)
    listed.write_text(json.dumps(entries))
    draw_pictures([run], tmp_path)
    (row,) = shown["Cases with 100 % of the labels"]
    assert np.array_equal(row.image, image[::-1, ::-1, 2].astype(np.uint8))
    assert np.array_equal(row.reference, maps[0][::-1, ::-1, 2] == 7)
    assert np.array_equal(row.predictions["a"], maps[1][::-1, ::-1, 2] == 2)

"""The whole two-stage method as one command: interrupted, with a job that fails, mended and finished."""

import base64
import csv
import hashlib
import io
import itertools
import json
import math
import re
import signal
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from two_stage_method import CANDIDATES, SCORED, Method, forked_jobs, wait_for

from mtmed.networks.weights import load_weights

METRICS = ("positive_slice_dice", "slice_dice_empty_one")


@dataclass(frozen=True)
class Story:
    """The method of this module: what it said and what was finished after each of three calls.

    Attributes:
        method: the finished method.
        status: exit status of the first call, which was interrupted.
        said: of the calls.
        finished: jobs and their attempts after the calls.
        open_table: ``table.json`` after the second call, in which a job failed.
    """

    method: Method
    status: int
    said: tuple[str, ...]
    finished: tuple[dict[str, bytes], ...]
    open_table: dict[str, Any]


@pytest.fixture(scope="module")
def story(x_rays: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("method")
    blocked = folder / "blocked"
    blocked.touch()
    method = Method(folder / "study", x_rays, stores={"jigsaw_joint_01": blocked / "store"})
    process = method.start()
    # the first job has ended, the second has begun
    wait_for(lambda: any(folder.glob("study/jobs/train-in_painting_pretrained-*/command.json")), process)
    process.send_signal(signal.SIGINT)
    said = [process.communicate()[0]]
    finished = [method.finished()]
    with forked_jobs(but=str(blocked)):
        said.append(method.run())
        finished.append(method.finished())
        open_table = read_json(method.folder / "table.json")
        blocked.unlink()
        said.append(method.run())
    return Story(method, process.returncode, tuple(said), (*finished, method.finished()), open_table)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def jobs(names: dict[str, bytes]) -> set[str]:
    """Names of jobs as far as their arm."""
    return {name.split("-fold")[0] for name in names}


def result(story: Story, arm: str) -> Path:
    """What the evaluation of an arm wrote."""
    return story.method.job("test", arm) / "run"


def best(story: Story, arm: str) -> float:
    return float(read_json(story.method.job("train", arm) / "run" / "best.json")["value"])


def winner(story: Story, choice: str) -> str:
    """By the values of the trainings, the first named of equal ones."""
    return max(CANDIDATES[choice], key=lambda arm: best(story, arm))


# --- interrupted, failed, mended ----------------------------------------------------------------------------------


def test_an_interrupted_method_ends_what_runs_and_says_how_to_go_on(story: Story) -> None:
    assert story.status == 128 + signal.SIGINT
    assert "stopped; the same command goes on from here" in story.said[0]
    assert jobs(story.finished[0]) == {"train-in_painting_joint_03"}


def test_a_job_that_fails_is_named_and_all_that_does_not_need_it_goes_on(story: Story) -> None:
    lines = story.said[1].splitlines()
    (failed,) = (line for line in lines if line.startswith("failed train"))
    assert failed.startswith("failed train-jigsaw_joint_01-")
    assert "store: cannot be created (Not a directory); choose another folder" in failed
    blocked = {line.split("-fold")[0] for line in lines if line.startswith("blocked ")}
    assert blocked == {
        f"blocked {name}" for name in ("choice-jigsaw", "distill-student", *map("test-{}".format, SCORED))
    }
    assert lines[-1].endswith("some jobs have failed, see above; mend the cause and run the same command again")
    trained = {f"train-{arm}" for among in CANDIDATES.values() for arm in among} - {"train-jigsaw_joint_01"}
    assert jobs(story.finished[1]) == {*trained, "choice-in_painting"}


def test_a_report_is_written_on_what_there_is(story: Story) -> None:
    made = {row["arm"]: row["chosen"] for row in story.open_table["choices"]}
    assert {arm for arm, chosen in made.items() if chosen} == {winner(story, "in_painting")}
    assert {made[arm] for arm in CANDIDATES["jigsaw"]} == {None}
    assert {row["finished_runs"] for row in story.open_table["rows"]} <= {0}


def test_the_same_command_runs_nothing_again_that_was_finished(story: Story) -> None:
    first, second, third = story.finished
    assert first.items() < second.items() < third.items()
    trainings = {f"train-{arm}" for among in CANDIDATES.values() for arm in among}
    chosen = {f"choice-{name}" for name in CANDIDATES}
    assert jobs(third) == {*trainings, *chosen, "distill-student", *(f"test-{arm}" for arm in SCORED)}
    for name in second:
        assert f"started {name}" not in story.said[2]


def test_a_finished_method_is_left_alone_and_keeps_its_student(story: Story) -> None:
    kept = (story.method.folder / "model.pt").read_bytes()
    said = story.method.run()
    assert "started" not in said
    assert story.method.finished() == story.finished[2]
    assert (story.method.folder / "model.pt").read_bytes() == kept


def test_a_student_whose_training_was_deleted_is_kept(story: Story) -> None:
    run = story.method.job("distill", "student") / "run"
    away = run.rename(run.with_name("away"))
    try:
        assert "kept from before; its training was deleted" in story.method.run()
        assert (story.method.folder / "model.pt").read_bytes() == (away / "model.pt").read_bytes()
        assert not run.exists()
    finally:
        away.rename(run)
        story.method.run()  # the report has its curve again


def test_other_settings_are_refused_before_anything_runs(story: Story) -> None:
    said = story.method.run(settings={"epochs": 5})
    (line,) = said.splitlines()
    assert "epochs" in line
    assert story.method.finished() == story.finished[2]


# --- what it chooses and keeps ------------------------------------------------------------------------------------


def test_the_mode_of_each_task_is_chosen_by_the_trainings_own_validation(story: Story) -> None:
    for name, among in CANDIDATES.items():
        made = read_json(story.method.job("choice", name) / "run" / "choice.json")
        assert {arm: one["values"] for arm, one in made["arms"].items()} == {
            arm: {"0": best(story, arm)} for arm in among
        }
        assert made["winner"] == winner(story, name)
    table = rows(story.method.folder / "choices.csv")
    assert [(row["choice"], row["arm"]) for row in table] == [
        (n, arm) for n, among in CANDIDATES.items() for arm in among
    ]
    for row in table:
        assert float(row["mean"]) == float(row["seed_0"]) == best(story, row["arm"])
        assert (row["chosen"] == "True") == (row["arm"] == winner(story, row["choice"]))


def test_a_training_records_the_best_of_its_own_curve(story: Story) -> None:
    """Else the choice would compare something else than the weights that are handed on."""
    for arm in itertools.chain(*CANDIDATES.values()):
        run = story.method.job("train", arm) / "run"
        recorded = torch.load(run / "checkpoint.pt", weights_only=True)["best_metric"]
        assert best(story, arm) == pytest.approx(recorded, abs=1e-12)


def test_the_student_learns_from_the_winners(story: Story) -> None:
    files = [story.method.job("train", winner(story, name)) / "run" / "model.pt" for name in CANDIDATES]
    settings = load_weights(story.method.folder / "model.pt")["settings"]
    assert settings["teachers_sha256"] == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    taught = read_json(result(story, "teacher_ensemble") / "summary.json")["protocol"]
    assert Path(taught["checkpoint"]).samefile(files[0])
    assert Path(taught["ensemble_with"][0]).samefile(files[1])


def test_model_pt_is_the_student_of_the_best_epoch(story: Story) -> None:
    student = story.method.job("distill", "student") / "run" / "model.pt"
    assert (story.method.folder / "model.pt").read_bytes() == student.read_bytes()
    value = read_json(student.with_name("best.json"))["value"]
    assert f"/study/model.pt (student of seed 0, validation {value:.3f})." in story.said[2]


# --- the report ---------------------------------------------------------------------------------------------------


def test_means_are_those_of_the_jobs_files(story: Story) -> None:
    table = read_json(story.method.folder / "table.json")
    assert {(row["arm"], row["metric"]) for row in table["rows"]} == set(itertools.product(SCORED, METRICS))
    for row in table["rows"]:
        values = [one[row["metric"]] for one in rows(result(story, row["arm"]) / "scores.csv")]
        defined = [float(value) for value in values if value]
        assert (row["values"], row["undefined"]) == (len(defined), len(values) - len(defined))
        assert row["mean"] == pytest.approx(statistics.fmean(defined), abs=1e-12)
        assert row["low"] is None or row["low"] <= row["mean"] <= row["high"]
    plain = [{key: value for key, value in row.items() if key != "folds"} for row in table["rows"]]
    for written, row in zip(rows(story.method.folder / "table.csv"), plain, strict=True):
        assert {key: written[key] for key in row} == {key: "" if v is None else str(v) for key, v in row.items()}


def test_tests_are_paired_by_patient(story: Story) -> None:
    for one in read_json(story.method.folder / "table.json")["comparisons"]:
        values = [
            {
                row["group"]: float(row[one["metric"]])
                for row in rows(result(story, arm) / "scores.csv")
                if row[one["metric"]]
            }
            for arm in (one["arm"], one["against"])
        ]
        differences = [values[0][patient] - values[1][patient] for patient in values[0]]
        assert (one["arm"], one["against"], one["patients"]) == ("student", "teacher_ensemble", len(differences))
        assert one["difference"] == pytest.approx(statistics.fmean(differences), abs=1e-12)
        flips = list(itertools.product((-1, 1), repeat=len(differences)))
        sums = [abs(math.fsum(sign * d for sign, d in zip(signs, differences, strict=True))) for signs in flips]
        observed = abs(math.fsum(differences))
        assert one["p"] == pytest.approx(statistics.fmean(total >= observed - 1e-9 for total in sums))


def test_image_auc_is_that_of_the_jobs_slices(story: Story) -> None:
    written = {row["arm"]: row for row in rows(story.method.folder / "pooled.csv")}
    assert written.keys() == set(SCORED)
    for arm, row in written.items():
        slices = rows(result(story, arm) / "slices.csv")
        positive, negative = (
            [float(one["highest_probability"]) for one in slices if (int(one["reference_voxels"]) > 0) == shown]
            for shown in (True, False)
        )
        assert len(positive) == 2
        wins = [(p > n) + 0.5 * (p == n) for p, n in itertools.product(positive, negative)]
        assert float(row["value"]) == pytest.approx(statistics.fmean(wins), abs=1e-12)
        stated = read_json(result(story, arm) / "summary.json")["image_auc"]["pneumothorax"]
        assert (stated["positives"], stated["negatives"]) == (len(positive), len(negative))
        assert (row["low"], row["high"]) == tuple(
            "" if stated[end] is None else str(stated[end]) for end in ("low", "high")
        )


def test_the_page_holds_all_that_it_shows(story: Story) -> None:
    page = (story.method.folder / "report.html").read_text()
    links = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']?([^"'>\s]+)""", page)
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert not re.search(r"<script|<link|<iframe|<object|@import|url\(|https?://", page)
    for link in links:
        assert min(Image.open(io.BytesIO(base64.b64decode(link.split(",", 1)[1]))).size) > 100


def test_the_page_says_what_won_how_sure_that_is_and_shows_curves_and_overlays(story: Story) -> None:
    page = (story.method.folder / "report.html").read_text()
    headings = re.findall("<h2>([^<]*)</h2>", page)
    for heading in ("Choice: in_painting", "Choice: jigsaw", "Planned comparisons on the same patients"):
        assert heading in headings
    assert any("image AUC" in heading for heading in headings)
    # curves, cases, cases zoomed in
    assert [heading for heading in headings if "with 100 % of the labels" in heading] == headings[-3:]
    for name, among in CANDIDATES.items():
        section = page.split(f"<h2>Choice: {name}</h2>")[1].split("<h2>")[0]
        cells = {
            row[2]: row[-1] for row in (re.findall("<td>([^<]*)</td>", line) for line in section.split("<tr>")) if row
        }
        assert cells == {arm: "chosen" if arm == winner(story, name) else "" for arm in among}
    assert re.search(r"<th>mean \(95 % interval\)</th>", page)


# --- slow ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_method_that_was_stopped_in_the_middle_of_trainings_ends_as_one_that_was_not(
    x_rays: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, stopped = (
        Method(tmp_path / name / "study", x_rays, settings={"epochs": 40}) for name in ("whole", "stopped")
    )
    for method in (whole, stopped):
        method.folder.parent.mkdir()
    assert "2 of 2 runs have scores" in whole.run(jobs_at_once=2)
    places = (
        ("train-in_painting_joint_03", "", signal.SIGINT),
        ("train-in_painting_pretrained", "pretraining/", signal.SIGKILL),
        ("train-jigsaw_joint_01", "", signal.SIGKILL),
        ("distill-student", "", signal.SIGINT),
    )
    for job, place, number in places:
        process = stopped.start()
        pattern = f"jobs/{job}-*/run/{place}checkpoint.pt"
        wait_for(lambda pattern=pattern: any(stopped.folder.glob(pattern)), process)
        process.send_signal(number)
        process.communicate()
        assert process.returncode in (130, -signal.SIGKILL)
        assert job not in jobs(stopped.finished())
    assert "2 of 2 runs have scores" in stopped.run()
    ends = [method.job("distill", "student") / "run" / "model.pt" for method in (whole, stopped)]
    one, other = (load_weights(end)["model"] for end in ends)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (whole.folder / "choices.csv").read_bytes() == (stopped.folder / "choices.csv").read_bytes()
    assert (whole.folder / "table.csv").read_bytes() == (stopped.folder / "table.csv").read_bytes()

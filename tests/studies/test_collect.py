import csv

from mtmed.studies.collect import RUN_LIST, collect_results, write_run_list
from mtmed.studies.study_folder import DONE, FAILED, StudyFolder


def mark(folder, key, name):
    folder.output_dir(key).mkdir(parents=True, exist_ok=True)
    (folder.job_folder(key) / name).write_text("{}")


def test_a_run_is_as_far_as_its_scored_step_and_what_that_needs(plan, tmp_path):
    made = plan()
    folder = StudyFolder(tmp_path / "out", made)
    scratch_0, pretrained_0, scratch_1, _ = made.runs
    for step in ("train", "evaluate"):
        mark(folder, scratch_0.jobs[step], DONE)
    mark(folder, pretrained_0.jobs["pretrain"], FAILED)
    mark(folder, scratch_1.jobs["train"], DONE)
    results = collect_results(folder)
    assert [(result.arm, result.fold) for result in results] == [(run.arm, run.fold) for run in made.runs]
    assert [result.state for result in results] == ["finished", "failed", "missing", "failed"]
    assert results[0].training == folder.output_dir(scratch_0.jobs["train"])
    assert results[0].evaluation == folder.output_dir(scratch_0.jobs["evaluate"])
    assert results[1].training is None, "it has not begun"
    assert results[2].training == folder.output_dir(scratch_1.jobs["train"])
    assert results[2].evaluation is None

    write_run_list(folder)
    rows = list(csv.DictReader((folder.path / RUN_LIST).open(newline="")))
    assert [row["state"] for row in rows] == ["finished", "failed", "missing", "failed"]
    assert folder.path / rows[0]["train"] == folder.job_folder(scratch_0.jobs["train"])
    assert rows[0]["pretrain"] == ""
    assert rows[1]["pretrain"] == rows[3]["pretrain"] != ""

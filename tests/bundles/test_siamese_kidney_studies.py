"""The study files of the kidney paper, planned as published and run at a small scale."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser
from PIL import Image
from siamese_kidney_runs import SIAMESE_KIDNEY, tiny_options
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.metrics.names import ORGAN_METRICS
from mtmed.networks.weights import load_weights
from mtmed.studies import Plan, make_plan, read_study

STUDIES = SIAMESE_KIDNEY / "studies"
CLAIM, DEMO, ALL_IMAGES = (STUDIES / f"{name}.json" for name in ("claim", "demo", "all_images"))
ARMS = ("none", "masked", "half_volume")


def planned(*more: Path) -> Plan:
    return make_plan(read_study([CLAIM, *more], () if DEMO in more else ["data=/data/kits19"]))


# --- the plan -----------------------------------------------------------------------------------------------------


def test_claim_has_every_arm_at_every_fraction_fold_and_seed() -> None:
    plan = planned()
    assert tuple(plan.study.arms) == ARMS
    assert plan.study.reference_arm == "none"
    cells = 5 * 4 * 2
    assert len(plan.runs) == 3 * cells
    assert Counter(job.step for job in plan.jobs.values()) == {
        "pretrain": 2 * cells,
        "train": 3 * cells,
        "evaluate": 3 * cells,
    }
    assert set(plan.study.metrics) <= set(ORGAN_METRICS)


def test_proxy_and_training_get_the_same_patients() -> None:
    plan = planned()
    for run in plan.runs:
        assert ("pretrain" in run.jobs) == (run.arm != "none")
        given = {step: plan.jobs[key].overrides for step, key in run.jobs.items()}
        assert {values["dataset_dir"] for values in given.values()} == {"/data/kits19"}
        for name in ("fold", "fraction"):
            assert {values[name] for values in given.values()} == {getattr(run, name)}
        assert {given[step]["seed"] for step in given if step != "evaluate"} == {run.seed}
    for key in ("folds", "split_key", "split_seed"):
        assert len({str(config.get(key)) for config in plan.configs.values()}) == 1


def test_arms_differ_in_nothing_but_the_encoder() -> None:
    given = planned().overrides
    trainings = {arm: dict(steps["train"]) for arm, steps in given.items()}
    starts = {arm: values.pop("pretrained", None) for arm, values in trainings.items()}
    assert starts == {"none": None, "masked": "{pretrain}/encoder.pt", "half_volume": "{pretrain}/encoder.pt"}
    assert trainings["none"] == trainings["masked"] == trainings["half_volume"]
    proxies = {arm: dict(steps["pretrain"]) for arm, steps in given.items() if "pretrain" in steps}
    assert {arm: values.pop("proxy", "masked") for arm, values in proxies.items()} == {
        "masked": "masked",
        "half_volume": "half_volume",
    }
    assert proxies["masked"] == proxies["half_volume"]
    # the best network on the validation fold would be chosen on what it is scored on
    assert {steps["evaluate"]["checkpoint"] for steps in given.values()} == {"{train}/last.pt"}


@pytest.mark.parametrize("taken", ["fraction", "fold"])
def test_proxy_with_more_labels_than_the_training_is_refused(taken: str, tmp_path: Path) -> None:
    """The masked proxy uses labels."""
    vary = [name for name in ("fold", "fraction", "seed") if name != taken]
    (tmp_path / "more.json").write_text(json.dumps({"steps::pretrain::vary": vary}))
    with pytest.raises(InputError, match=r"steps::pretrain: in arm 'masked'") as caught:
        planned(tmp_path / "more.json")
    assert taken in caught.value.problem + caught.value.remedy


def test_proxy_on_another_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text(json.dumps({"steps::pretrain::overrides": {"split_seed": 1}}))
    with pytest.raises(InputError, match="split_seed 1 and evaluate has 0"):
        planned(tmp_path / "more.json")


def test_half_volumes_may_be_those_of_all_images() -> None:
    plan = planned(ALL_IMAGES)
    assert tuple(plan.study.arms) == (*ARMS, "half_volume_all_images")
    assert plan.study.fractions == (10, 25, 50)
    given = plan.overrides["half_volume_all_images"]["pretrain"]
    assert (given["proxy"], given["training_images"]) == ("half_volume", "all")
    assert all("training_images" not in plan.overrides[arm].get("pretrain", {}) for arm in ARMS)


@pytest.mark.parametrize("overlays", [(DEMO,), (ALL_IMAGES, DEMO)])
def test_demo_scale_needs_nothing_of_the_user(overlays: tuple[Path, ...]) -> None:
    plan = planned(*overlays)
    assert (plan.study.folds, plan.study.fractions, plan.study.seeds) == ((0,), (50, 100), (0,))
    assert plan.configs["train"].get("spacing") != [1.62, 1.62, 3.22]
    assert len(plan.runs) == 2 * len(plan.study.arms)


def test_dry_run_lists_the_commands_in_an_order_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "study"
    words = ["study", str(CLAIM), "--dry-run", "--set", "data=/data/kits19", "--output", str(output)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if not line.startswith("#")]
    assert len(commands) == 80 + 120 + 120
    assert lines[-1].startswith("# 120 runs of 320 jobs, 0 finished")
    assert not output.exists()
    made: set[str] = set()
    for command in commands:
        values = dict(re.findall(r"--(\w+)=('[^']*'|\S+)", command))
        for key, file in (("pretrained", "encoder.pt"), ("checkpoint", "last.pt")):
            if key in values:
                folder, _, name = values[key].rpartition("/")
                assert name == file
                assert folder in made
        made.add(values["output_dir"])


@pytest.mark.parametrize("proxy", ["masked", "half_volume"])
def test_proxy_has_the_published_settings(proxy: str, siamese_config: Any, kidneys: dict[str, str]) -> None:
    parser = ConfigParser()
    parser.read_config(siamese_config("pretrain", "paper"))
    places = {"dataset_dir": kidneys["data"], "store_dir": kidneys["store"], "output_dir": "no", "device": "cpu"}
    parser.update({**places, "proxy": proxy})
    value = parser.get_parsed_content
    assert value("box_size") == {"masked": [112, 112, 64], "half_volume": [128, 192, 128]}[proxy]
    assert (value("epochs"), value("batch_size")) == (100, 1)
    assert value("iterations_per_epoch") == len(value("split").training)
    assert (value("spacing"), value("window")) == ([1.62, 1.62, 3.22], [-80.0, 300.0])
    assert (value("margin"), value("accuracy_threshold"), value("mirror_right")) == (1.0, 0.75, False)
    assert (value("learning_rate"), value("weight_decay")) == (1e-3, 1e-2)


# --- a run --------------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_study_says_which_arm_is_better_and_which_sooner(
    kidneys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = {"fractions": [100], "seeds": [0, 1], "overrides::store_dir": kidneys["store"]}
    (tmp_path / "overlay.json").write_text(json.dumps(overlay))
    tiny = tiny_options("pretrain", {**kidneys, "data": ""}, epochs=8, iterations_per_epoch=8, val_interval=1)
    tiny |= {"learning_rate": 0.01, "foreground_weight": 4.0}
    del tiny["dataset_dir"], tiny["store_dir"]
    half_batch = tiny.pop("batch_size")
    words = ["study", *map(str, (CLAIM, DEMO, tmp_path / "overlay.json"))]
    words += ["--output", str(tmp_path / "out"), "--workers", "2", "--set", f"data={kidneys['data']}"]
    words += ["--set", f"pretrain.batch_size={half_batch}"]
    for key, value in tiny.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    status = main(words)
    out, err = capsys.readouterr()
    assert status == 0, err
    folder = tmp_path / "out"
    assert "6 of 6 runs have scores" in out
    assert "epochs to the final Dice of none" in out
    assert {row["state"] for row in rows(folder / "runs.csv")} == {"finished"}
    # better
    means = rows(folder / "table.csv")
    assert {row["arm"] for row in means} == set(ARMS)
    assert {row["metric"] for row in means} == {"dice", "hd95", "boundary_difference"}
    assert {row["against"] for row in rows(folder / "comparisons.csv")} == {"none"}
    # sooner
    soon = rows(folder / "convergence.csv")
    assert Counter(row["arm"] for row in soon) == dict.fromkeys(ARMS, 2)
    reference = {row["seed"]: float(row["final_dice"]) for row in soon if row["arm"] == "none"}
    for row in soon:
        assert 0 <= float(row["final_dice"]) <= float(row["peak_dice"]) <= 1
        nothing = reference[row["seed"]] == 0
        assert row["status_smoothed"] in (("reference found nothing",) if nothing else ("reached", "not reached"))
        assert float(row["last_epoch"]) == 8
    for arm in ARMS:
        events = EventAccumulator(str(folder / "curves" / f"{arm}-100%")).Reload()
        assert [event.step for event in events.Scalars("dice/mean")] == [8 * epoch for epoch in range(1, 9)]
        assert len(events.Scalars("dice/smoothed")) == 8
    report = (folder / "report.html").read_text()
    assert "epochs to the final Dice of none" in report
    for picture in ("curves_100.png", "cases_100.png", "cases_100_zoom.png"):
        assert min(Image.open(folder / picture).size) > 200
    # proxy and training saw the same patients, none of which is scored
    for run in rows(folder / "runs.csv"):
        seen = set(load_weights(folder / run["train"] / "run" / "last.pt")["settings"]["trained_on"])
        if run["arm"] != "none":
            assert set(load_weights(folder / run["pretrain"] / "run" / "encoder.pt")["settings"]["trained_on"]) == seen

"""Everything that is wrong with a config is listed at once, and nothing of its training is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from traps import write_config

from mtmed.checking.config_check import ConfigReport, examine_config
from mtmed.cli import main

BUNDLES = Path(__file__).parents[2] / "bundles"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small scans with two labels."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = []
    for index in range(5):
        voxels = np.random.default_rng(index).integers(-100, 200, (20, 20, 16)).astype(np.int16)
        for name, data in (("image", voxels), ("label", (voxels > 150).astype(np.uint8))):
            nib.save(nib.Nifti1Image(data, np.diag([4.0, 4.0, 5.0, 1.0])), folder / f"{name}_{index}.nii.gz")
        rows.append({"image": f"image_{index}.nii.gz", "label": f"label_{index}.nii.gz", "patient": f"p{index}"})
    content = {"name": "Small", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., ConfigReport]:
    """Checks a config of a few lines, with overlays and overrides."""

    def start(*overlays: dict[str, Any], main: dict[str, Any], **settings: Any) -> ConfigReport:
        files = [write_config(tmp_path / f"config_{n}.json", content) for n, content in enumerate((main, *overlays))]
        return examine_config(files, settings=settings)

    return start


def lines(report: ConfigReport) -> list[str]:
    return [f"{item.kind} {item.culprit}: {item.problem}; {item.remedy}" for item in report.problems]


def test_a_whole_list_of_mistakes_is_listed_at_once(check: Callable[..., ConfigReport]) -> None:
    main_config = {
        "imports": ["$import mtmed", "$import mtmed.bundle", "$import nowhere_to_be_found"],
        "epochs": 2,
        "pretrained": "no/such/encoder.pt",
        "sizes": {"width": 3},
        "a": "@b",
        "b": "$@a + 1",
        "width": "@sizes::widht",
        "lost": "$@epoch + 1",
        "half": "$(1 +",
        "misnamed": "$mtmed.bundle.check_dat(@epochs)",
        "undefined": "$torhc.zeros(1)",
        "keyword": "$monai.utils.set_determinism(sead=1)",
        "loss": {"_target_": "monai.losses.DiceLos"},
        "network": {"_target_": "mtmed.networks.UNETR", "in_channel": 1, "out_channels": 1, "img_size": [16, 16, 16]},
        "run": ["$mtmed.bundle.require_choice('epochs', str(@epochs), ['1'])", "$mtmed.bundle.check_data(@lost)"],
    }
    report = check({"epohcs": 3, "epochs": "ten"}, main=main_config)
    text = "\n".join(lines(report))
    for expected in (
        "option epohcs: unknown option",
        "did you mean 'epochs'?",
        "option epochs: is 'ten', not a number",
        "reference a: refers to itself: a -> b -> a",
        "reference width: refers to @sizes::widht, which is not in the config; did you mean '@sizes::width'?",
        "reference lost: refers to @epoch, which is not in the config; did you mean '@epochs'?",
        "expression half: does not parse",
        "expression misnamed: there is no mtmed.bundle.check_dat; did you mean 'mtmed.bundle.check_data'?",
        "expression undefined: names torhc, which is not defined; did you mean 'torch'?",
        "expression keyword: monai.utils.set_determinism takes no argument 'sead'; did you mean 'seed'?",
        "expression imports::2: cannot be imported",
        "component loss: there is no class or function monai.losses.DiceLos; did you mean 'monai.losses.DiceLoss'?",
        "component network::in_channel: mtmed.networks.UNETR takes no such argument; did you mean 'in_channels'?",
        "component network: mtmed.networks.UNETR needs 'in_channels'",
        "file pretrained: names no/such/encoder.pt, which is no file",
        "value epochs: is 'ten'; choose one of 1",
    ):
        assert expected in text, (expected, text)


def test_keys_that_stand_twice_are_listed_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{\n"a": {"x": 1, "y": ":{",\n "x": 2},\n"b": [{"x": 1}, {"x": 2}],\n"b": 1\n}')
    problems = [item for item in examine_config([str(file)], settings={}).problems if item.kind == "key"]
    assert [(item.culprit, item.problem[-6:]) for item in problems] == [
        (f"{file}: x", "line 3"),
        (f"{file}: b", "line 5"),
    ]
    file = tmp_path / "c.yaml"
    file.write_text("a:\n  x: 1\n  x: 2\n")
    assert "line 3" in examine_config([str(file)], settings={}).problems[0].problem


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '{"a": 1,}', "is not JSON"),
        ("c.json", "[1]", "holds a list"),
        ("c.yaml", "a: [1", "is no plain YAML"),
        ("c.yaml", "a: !!python/object/apply:os.getcwd []", "is no plain YAML"),
    ],
)
def test_a_file_that_is_no_config_is_one_problem(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (problem,) = examine_config([str(tmp_path / name)], settings={}).problems
    assert message in problem.problem


def test_only_what_is_needed_is_evaluated(check: Callable[..., ConfigReport], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    touched = f"$open({str(mark)!r}, 'w').write('x')"
    config = {
        "imports": ["$import mtmed", "$import mtmed.bundle"],
        "costly": touched,
        "cheap": "$@costly if False else 3",
        "trainer": {"_target_": "builtins.dict", "a": touched},
        "run": ["$mtmed.bundle.require_choice('cheap', str(@cheap), ['4'])", "$@trainer.run()", touched],
    }
    assert lines(check(main=config)) == ["value cheap: is '3'; choose one of 4"]
    assert not mark.exists()


def test_a_bundle_is_checked_with_its_data_and_nothing_is_written(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [f"--set={key}" for key in (f"dataset_dir={cohort}", "patch_size=[16,16,16]", "batch_size=1")]
    assert main(["check", str(BUNDLES / "mixcl/finetune.json"), *small, "--json", "report.json"]) == 0
    out = capsys.readouterr().out
    assert "memory of one training step: about" in out
    assert "Small" in out
    assert "0 problems" in out
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["data"]["cases"]) == 5
    assert set(report["memory"]) == {"training step", "inference window"}


def test_what_is_wrong_with_the_data_and_the_network_is_listed(cohort: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "cohort"
    damaged.mkdir()
    for path in cohort.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "image_1.nii.gz").write_bytes(b"")
    (damaged / "label_2.nii.gz").unlink()
    settings = {"dataset_dir": str(damaged), "patch_size": [16, 16, 16], "network_def#in_channels": 2}
    found = lines(examine_config([str(BUNDLES / "mixcl/finetune.json")], settings=settings))
    assert sum(line.startswith("data ") for line in found) == 2
    assert any("image_1.nii.gz: is empty" in line for line in found)
    assert any("network_def::in_channels: is 2, the data have 1" in line for line in found)


def test_a_data_set_that_is_not_there_is_a_problem() -> None:
    found = lines(examine_config([str(BUNDLES / "mixcl/finetune.json")], settings={"dataset_dir": "nowhere"}))
    assert found == [
        "value nowhere: no such file or folder; pass a folder with dataset.json, or folders that have one"
    ] or any("nowhere" in line for line in found)


def test_a_checkpoint_that_is_still_to_be_given_is_no_problem(cohort: Path) -> None:
    report = examine_config([str(BUNDLES / "mixcl/inference.json")], settings={"dataset_dir": str(cohort)})
    assert report.problems == []
    assert any("checkpoint: is not given" in notice for notice in report.notices)


def test_a_network_larger_than_the_memory_is_a_problem(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 1024)
    settings = {"dataset_dir": str(cohort), "patch_size": [16, 16, 16], "device": "cpu"}
    report = examine_config([str(BUNDLES / "mixcl/finetune.json")], settings=settings, read_data=False)
    assert {item.culprit for item in report.problems if item.kind == "memory"} == {"training step", "inference window"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "nowhere.json: no such file"),
        ([str(BUNDLES / "mixcl/studies/table1_btcv.json")], "mtmed study"),
        (
            [str(BUNDLES / "mixcl/finetune.json"), "--patch-size", "8", "8", "8"],
            "--patch-size: does nothing with a config",
        ),
        ([".", "--set", "a=1"], "--set: does nothing with a data set"),
        ([str(BUNDLES / "mixcl/finetune.json"), "--set", "a"], "--set a: is not KEY=VALUE"),
        (["--untrusted", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1

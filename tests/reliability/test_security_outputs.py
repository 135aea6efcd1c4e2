"""Outputs lie in the output folder, whatever the names in the data say."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mtmed.cli import main
from mtmed.data import load_cohort
from mtmed.errors import InputError
from mtmed.inferers import inference_cases
from mtmed.metrics import EvaluationReport, evaluation_cases
from mtmed.studies.results import read_case_files
from mtmed.transforms import SaveLabelMapd

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
HOSTILE = [
    "../../../escaped",
    "/escaped",
    "..",
    "a/../../escaped",
    "C:\\escaped",
    "long" * 100,
    ".hidden",
]


def write_scan(path: Path, *, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = (np.random.default_rng(seed).random((6, 5, 4)) > 0.6).astype(np.uint8)
    nib.Nifti1Image(label, AFFINE).to_filename(path)
    return label


def write_cohort(folder: Path, ids: Sequence[str | None], *, name: str = "demo") -> Path:
    """Scans that are their own labels, with these ids."""
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(ids):
        write_scan(folder / f"{number}.nii.gz", seed=number)
        write_scan(folder / f"{number}_label.nii.gz", seed=number)
        row = {"image": f"{number}.nii.gz", "label": f"{number}_label.nii.gz", "patient": f"p{number}", "id": case}
        rows.append({key: value for key, value in row.items() if value is not None})
    manifest = {"name": name, "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def prediction(path: str) -> MetaTensor:
    image = nib.load(path)
    tensor = MetaTensor(torch.from_numpy(np.asarray(image.dataobj))[None], affine=torch.from_numpy(image.affine))
    tensor.meta |= {"filename_or_obj": path, "original_affine": image.affine, "spatial_shape": image.shape}
    return tensor


class Engine:
    """What handlers see of an evaluator."""

    def __init__(self, rows: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self.state = type("State", (), {"batch": rows, "output": outputs, "metrics": {}})()


def evaluate(folder: Path, output: Path) -> None:
    """Write label maps, scores and overlays of a cohort, as a bundle's evaluation does."""
    cohort = load_cohort(folder)
    rows = evaluation_cases(cohort.cases)
    labels = {0: "background", 1: "liver"}
    save = SaveLabelMapd("pred", output / "predictions", label_names=labels)
    report = EvaluationReport(cohort=cohort, cases=cohort.cases, label_names=labels, output_dir=str(output))
    outputs = [save({"pred": prediction(row["image"][0]), "output_name": row["output_name"]}) for row in rows]
    engine = Engine(rows, outputs)
    report._start(engine)
    report._score(engine)
    report._finish(engine)


def test_evaluation_writes_into_its_folder_alone(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "in" / "data", HOSTILE, name="..")
    output = tmp_path / "in" / "out" / "evaluation"
    before = everything(tmp_path)
    evaluate(folder, output)
    new = everything(tmp_path) - before
    assert {path for path in new if not path.startswith("in/out")} == set()
    written = list((output / "predictions").glob("*.nii.gz"))
    assert len(written) == len(list((output / "overlays").glob("*.png"))) == len(HOSTILE)
    # a study finds them again
    found = read_case_files(output)
    assert {case.prediction for case in found.values()} == set(written)
    for key, case in found.items():
        np.testing.assert_array_equal(nib.load(case.prediction).dataobj, nib.load(case.reference).dataobj, key)


@pytest.mark.parametrize("ids", [["a/b", "a_b"], ["Case1", "case1"]])
def test_two_cases_of_one_output_name_are_refused(tmp_path: Path, ids: list[str]) -> None:
    cases = load_cohort(write_cohort(tmp_path / "data", ids)).cases
    with pytest.raises(InputError, match=r"would give the same output name as demo/.*; give one of them another 'id'"):
        evaluation_cases(cases)


@pytest.mark.parametrize("name", ["line\nbreak", "nul\0byte", "\x1b[2J", "lone\ud800surrogate"])
def test_ids_that_break_lines_or_command_the_terminal_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_cohort(tmp_path / "data", ["good", name])
    with pytest.raises(InputError) as caught:
        load_cohort(folder)
    assert str(caught.value) == (
        f"{folder}/dataset.json training[1]: 'id' is {name!r}; give a name without control characters"
    )


def test_a_file_whose_name_breaks_lines_is_named_in_one() -> None:
    assert str(InputError("a\n\x1b[2Jb.nii.gz", "is empty", "copy it")) == "a\\x0a\\x1b[2Jb.nii.gz: is empty; copy it"


def test_ids_that_stay_apart_are_taken(tmp_path: Path) -> None:
    cases = load_cohort(write_cohort(tmp_path / "data", ["long" * 100 + "1", "long" * 100 + "2"])).cases
    assert len({row["output_name"] for row in evaluation_cases(cases)}) == 2


def test_label_maps_of_images_with_odd_names_lie_in_the_folder(tmp_path: Path) -> None:
    names = ["..nii.gz", "...nii.gz", "a\nb.nii.gz", "CT.nii.gz", "sub/ct.nii.gz", "n" * 240 + ".nii.gz", "b\\c.nii.gz"]
    for number, name in enumerate(names):
        write_scan(tmp_path / "in" / "data" / name, seed=number)
    output = tmp_path / "in" / "out"
    paths = [str(tmp_path / "in" / "data" / name) for name in names]
    cases = inference_cases(paths, modalities=["CT"])
    save = SaveLabelMapd("pred", output, label_names={0: "background", 1: "liver"})
    before = everything(tmp_path)
    for case in cases:
        save({"pred": prediction(case["image"][0]), "output_name": case["output_name"]})
    new = everything(tmp_path) - before
    assert all(path.startswith("in/out/") and path.count("/") == 2 for path in new)
    assert len({path.casefold() for path in new}) == 2 * len(names)


def test_a_label_map_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    write_scan(tmp_path / "ct.nii.gz")
    (tmp_path / "out").mkdir()
    for name in ("ct_seg.nii.gz", "ct_seg.json"):
        (tmp_path / name).write_text("foreign")
        (tmp_path / "out" / name).symlink_to(tmp_path / name)
    save = SaveLabelMapd("pred", tmp_path / "out", label_names={0: "background", 1: "liver"})
    save({"pred": prediction(str(tmp_path / "ct.nii.gz"))})
    for name in ("ct_seg.nii.gz", "ct_seg.json"):
        assert (tmp_path / name).read_text() == "foreign"
        assert not (tmp_path / "out" / name).is_symlink()


def test_an_input_is_never_overwritten_through_a_link(tmp_path: Path) -> None:
    write_scan(tmp_path / "data" / "ct_seg.nii.gz")
    (tmp_path / "data" / "ct.nii.gz").symlink_to("ct_seg.nii.gz")
    before = (tmp_path / "data" / "ct_seg.nii.gz").read_bytes()
    save = SaveLabelMapd("pred", tmp_path / "data", label_names={0: "background", 1: "liver"})
    with pytest.raises(InputError, match="is the input image, which is never overwritten"):
        save({"pred": prediction(str(tmp_path / "data" / "ct.nii.gz"))})
    assert (tmp_path / "data" / "ct_seg.nii.gz").read_bytes() == before


@pytest.mark.parametrize("name", ["../escaped_ct_segmentation", "/escaped_segmentation", "a/b_segmentation", ".."])
def test_an_export_is_a_folder_in_its_folder(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Path(__file__).parents[2] / "bundles" / "mixcl"
    words = ["export", str(bundle), "--checkpoint", "gone.pt", "--output", str(tmp_path / "dist"), "--name", name]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"--name: is {name!r}, which is no name of a folder")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_inputs_outside_of_the_data_folder_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_cohort(tmp_path / "data", [None, None])
    os.rename(folder / "1.nii.gz", tmp_path / "elsewhere.nii.gz")
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["training"][1]["image"] = "../elsewhere.nii.gz"
    (folder / "dataset.json").write_text(json.dumps(manifest))
    main(["check", str(folder)])
    assert "demo/elsewhere: lies outside the folder of its manifest" in capsys.readouterr().out

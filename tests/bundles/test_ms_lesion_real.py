"""MS lesions from two real patients to scores, at a scale of seconds: the path, not the method."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle.scripts import run

from mtmed.data import match_layout, read_layout, write_manifest

pytestmark = pytest.mark.real

BUNDLE = Path(__file__).parents[2] / "bundles" / "ms_lesion"
SMALL = {
    "device": "cpu",
    "folds": 2,
    "merged_lesions": "in_sample",
    "rough_epochs": 1,
    "epochs": 1,
    "val_interval": 1,
    "iterations_per_epoch": 2,
    "spacing": [4.0, 4.0, 4.0],
    "patch_size": [32, 32, 32],
    "network_def#features": [4, 4, 8, 8, 8, 4],
}
LESION_ML = {"patient07": 1.300, "patient26": 8.227}


@pytest.fixture(scope="module", params=[pytest.param("multi_input", marks=pytest.mark.slow), "multi_output"])
def results(real_data: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Trains on one patient and scores the other."""
    out = tmp_path_factory.mktemp(request.param)
    match = match_layout(read_layout("mslub_mni"), real_data / "ms_open_mni")
    write_manifest(match.manifest, out / "dataset.json")
    folders = {key: str(out / key) for key in ("store_dir", "tissue_dir", "rough_dir")}
    common = {"dataset_dir": str(out), "folds": 2, "device": "cpu"}
    run(
        config_file=str(BUNDLE / "train.json"),
        variant=request.param,
        output_dir=str(out / "train"),
        **{**SMALL, **common},
        **folders,
    )
    checkpoint = str(out / "train" / "model.pt")
    run(config_file=str(BUNDLE / "evaluate.json"), checkpoint=checkpoint, output_dir=str(out / "scores"), **common)
    return out


def test_maps_lie_on_the_grid_of_the_real_flair(results: Path) -> None:
    maps = sorted((results / "scores" / "predictions").glob("*.nii.gz"))
    assert len(maps) == (2 if "multi_output" in str(results) else 1)
    for path in maps:
        found = nibabel.load(path)
        assert found.shape == (182, 218, 182)
        assert nibabel.aff2axcodes(found.affine) == ("L", "A", "S")
        assert set(np.unique(np.asarray(found.dataobj))) <= ({0, 1, 2, 3} if "_tissue" in path.name else {0, 1})


def test_the_reference_volume_is_that_of_the_patient(results: Path) -> None:
    with (results / "scores" / "scores.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["reference_ml"]) == pytest.approx(LESION_ML[row["group"]], abs=1e-6)
    assert 0 <= float(row["dice"] or 0) <= 1


def test_the_data_check_finds_nothing_but_where_the_files_lie(results: Path) -> None:
    (notice,) = json.loads((results / "train" / "data_check.json").read_text())["notices"]
    assert "lies outside the folder of its manifest" in notice

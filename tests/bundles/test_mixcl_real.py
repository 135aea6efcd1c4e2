"""MixCL from real scans to a segmented real scan, at a scale of seconds: a fit check of the path, not of the method."""

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle.scripts import run

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_cohorts import abdomen, pretraining

pytestmark = pytest.mark.real

BUNDLE = Path(__file__).parents[2] / "bundles" / "mixcl"
SMALL = {
    "epochs": 2,
    "iterations_per_epoch": 2,
    "spacing": [6.0, 6.0, 6.0],
    "patch_size": [32, 32, 32],
    "network_def#feature_size": 4,
    "network_def#hidden_size": 24,
    "network_def#mlp_dim": 48,
    "network_def#num_heads": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def results(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-trains on two CT data sets with different labels, fine-tunes on the abdomen and predicts the same case."""
    out = tmp_path_factory.mktemp("real")
    shared = {"store_dir": str(out / "store")}
    bundle = str(BUNDLE)
    run(
        config_file=f"{bundle}/pretrain.json",
        dataset_dir=str(pretraining(real_data, out / "cohort")),
        output_dir=str(out / "pretrain"),
        **SMALL,
        **shared,
    )
    run(
        config_file=f"{bundle}/finetune.json",
        dataset_dir=str(abdomen(real_data, out / "abdomen")),
        output_dir=str(out / "finetune"),
        pretrained=str(out / "pretrain" / "encoder.pt"),
        fold="none",
        epochs=2,
        iterations_per_epoch=2,
        device="cpu",
        **shared,
    )
    run(
        config_file=f"{bundle}/inference.json",
        input=str(out / "abdomen" / "images"),
        checkpoint=str(out / "finetune" / "last.pt"),
        output_dir=str(out / "prediction"),
        device="cpu",
    )
    return out


def test_the_label_map_lies_on_the_grid_of_the_real_scan(results: Path) -> None:
    (path,) = (results / "prediction").rglob("*_seg.nii.gz")
    prediction, image = nibabel.load(path), nibabel.load(results / "abdomen" / "images" / "totalseg.nii.gz")
    assert prediction.shape == image.shape
    assert np.allclose(prediction.affine, image.affine)
    assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 1, 2, 3, 4}


def test_the_whole_encoder_arrived(results: Path) -> None:
    log = (results / "finetune" / "log.txt").read_text()
    assert "176 of 176 tensors transferred" in log


def test_both_data_sets_were_stored_with_their_own_labels(results: Path) -> None:
    record = (results / "pretrain" / "data_check.json").read_text()
    assert '"cases": 2' in record

"""Kidneys from real label maps and a real CT to a segmented real CT: the path, and that a network can fit the scan."""

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from siamese_kidney_runs import run_siamese

from mtmed.data import match_layout, read_layout, write_manifest
from mtmed.networks.weights import load_weights

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_cohorts import abdomen

pytestmark = pytest.mark.real

NETWORK = {"network_def#block_layers": [1, 1, 2, 2], "network_def#growth": [4, 8, 8, 8]}
SPACING = [6.0, 6.0, 6.0]
CASES = ("00004", "00021", "00061", "00110")
KIDNEYS_ML = (7134 + 5090) * 27 / 1000


@pytest.fixture(scope="module")
def encoder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short pre-training on the shapes of eight real kidneys."""
    out = tmp_path_factory.mktemp("real_kidneys")
    (out / "masks").mkdir()
    for case in CASES:
        (out / "masks" / f"case_{case}").symlink_to(real_data / "kits19_segmentations" / f"case_{case}")
    match = match_layout(read_layout("kits19_labels"), out / "masks")
    write_manifest(match.manifest, out / "dataset.json")
    given = {"dataset_dir": str(out), "store_dir": str(out / "store"), "output_dir": str(out / "pretrain")}
    more = {"region_intensity": "constant", "folds": 2, "epochs": 2, "iterations_per_epoch": 4, "device": "cpu"}
    return run_siamese("pretrain", {**given, **more, **NETWORK, "spacing": SPACING})


def train_on_the_ct(encoder: Path, real_data: Path, out: Path, **more: Any) -> tuple[Path, Path]:
    """Train on the CT and segment it; folders of the training and of the label map."""
    abdomen(real_data, out / "abdomen")
    common = {"dataset_dir": str(out / "abdomen"), "device": "cpu"}
    own = {"pretrained": str(encoder / "encoder.pt"), "store_dir": str(out / "store"), "fold": "none"}
    run_siamese("train", {**common, **own, "output_dir": str(out / "train"), **more})
    given = {**common, "checkpoint": str(out / "train" / "last.pt"), "output_dir": str(out / "prediction")}
    return out / "train", run_siamese("inference", {**given, "input": str(out / "abdomen" / "images")})


def read_prediction(folder: Path, cohort: Path) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and labelled kidneys, after a look at the grid."""
    (path,) = folder.rglob("*_seg.nii.gz")
    prediction, image = nibabel.load(path), nibabel.load(cohort / "images" / "totalseg.nii.gz")
    assert prediction.shape == image.shape == (122, 101, 112)
    assert np.allclose(prediction.affine, image.affine)
    predicted = np.asarray(prediction.dataobj)
    assert set(np.unique(predicted)) <= {0, 1}
    return predicted == 1, np.asarray(nibabel.load(cohort / "labels" / "totalseg.nii.gz").dataobj) >= 3


def test_label_map_lies_on_the_grid_of_the_real_ct(encoder: Path, real_data: Path, tmp_path: Path) -> None:
    training, folder = train_on_the_ct(encoder, real_data, tmp_path, epochs=1, iterations_per_epoch=2)
    read_prediction(folder, tmp_path / "abdomen")
    content = load_weights(training / "last.pt")
    assert content["settings"]["spacing"] == SPACING
    assert content["settings"]["label_names"] == {"0": "background", "1": "kidney"}
    count = len(load_weights(encoder / "encoder.pt")["model"])
    assert f"{count} of {count} tensors transferred" in (training / "log.txt").read_text()
    # patients of the proxy are remembered beside the one of the training
    assert len(content["settings"]["trained_on"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("part", ["whole", "half"])
def test_network_finds_the_kidneys_of_the_ct_that_it_was_trained_on(
    part: str, encoder: Path, real_data: Path, tmp_path: Path
) -> None:
    """It says nothing of other patients: there is one CT."""
    more = {"part": part, "epochs": 10, "iterations_per_epoch": 40, "learning_rate": 5e-3, "weight_decay": 0.0}
    _, folder = train_on_the_ct(encoder, real_data, tmp_path, **more)
    predicted, kidneys = read_prediction(folder, tmp_path / "abdomen")
    assert kidneys.sum() * 27 / 1000 == pytest.approx(KIDNEYS_ML)
    assert 2 * (predicted & kidneys).sum() / (predicted.sum() + kidneys.sum()) > 0.7
    # both of them, which are two organs in the data set
    middle = kidneys.shape[0] // 2
    for side in (slice(0, middle), slice(middle, None)):
        assert 2 * (predicted & kidneys)[side].sum() / (predicted[side].sum() + kidneys[side].sum()) > 0.6

"""Organs in real abdominal slices and chambers of real hearts, at a scale of seconds: the path, not the method."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from gi_tract_runs import run_gi_tract
from PIL import Image

from mtmed.bundle.messages import mendable
from mtmed.networks.weights import load_weights

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_cohorts import acdc, gi_tract_uwm_2d

pytestmark = pytest.mark.real

SHARES = {"shares": [75, 25, 0], "fold": 1, "device": "cpu"}
SMALL = {
    "precision": "float32",
    "image_size": [32, 32],
    "network_defs#small_unet#base_channels": 4,
    "epochs": 1,
    "iterations_per_epoch": 2,
    "batch_size": 4,
}
# a slice alone has no neighbours, so that its positive is the slice itself, turned and scaled
TWO_VIEWS = {
    "auxiliary": "momentum_contrast",
    "augmentation": "contrast",
    "queue_size": 16,
    "train#draw": "$@train#draws['every_slice']",
    "train#tasks#momentum_contrast#key": "patch",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "film": {"film": True, "film_features": ["slice_number", "day_number"]},
    "two_views": TWO_VIEWS,
}
# values of the colours: red 1, green 2, red + green 3, red + blue 5
COLOURS = {"stomach": (1,), "large_bowel": (2, 5), "small_bowel": (3, 5)}


@pytest.fixture(scope="module")
def slices(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 25 real slices with a manifest."""
    return gi_tract_uwm_2d(real_data, tmp_path_factory.mktemp("real") / "gi_tract_uwm_2d")


@pytest.fixture(scope="module")
def train(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains on the slices; returns the folder."""
    out = tmp_path_factory.mktemp("runs")

    def start(name: str, **more: Any) -> Path:
        given = {"dataset_dir": str(slices), "store_dir": str(out / "store"), "output_dir": str(out / name)}
        return run_gi_tract("train", {**SHARES, **SMALL, **given, **more})

    return start


def evaluate(training: Path, data: Path, **more: Any) -> Path:
    """Score the last network of a training beside it; returns the folder."""
    given = {"dataset_dir": str(data), "checkpoint": str(training / "last.pt")}
    return run_gi_tract("evaluate", {**SHARES, **given, "output_dir": str(training) + "-scores", **more})


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("variant", ["plain", "film", pytest.param("two_views", marks=pytest.mark.slow)])
def test_slices_of_held_out_patients_are_scored_on_their_own_grid(
    variant: str, train: Callable[..., Path], slices: Path
) -> None:
    training = train(variant, **VARIANTS[variant])
    scores = evaluate(training, slices)
    rows = rows_of(scores / "slices.csv")
    assert {row["organ"] for row in rows} == set(COLOURS)
    assert {row["group"] for row in rows} == {"case114", "case123"}
    for row in rows:
        channels = np.asarray(Image.open(slices / "masks" / f"{row['case']}.png").convert("RGB")) > 127
        painted = channels @ np.array([1, 2, 4])
        assert int(row["reference_voxels"]) == np.isin(painted, COLOURS[row["organ"]]).sum()
    cases = sorted({row["case"] for row in rows})
    assert len(cases) == 3
    assert [path.stem.split("_", 4)[-1] for path in sorted((scores / "overlays").iterdir())] == cases
    for path in (scores / "predictions").glob("*.nii.gz"):
        found = nibabel.load(path)
        assert found.shape == (512, 512, 1)
        assert nibabel.aff2axcodes(found.affine) == ("L", "P", "S")
        assert set(np.unique(np.asarray(found.dataobj))) <= set(range(8))
    listed = json.loads((scores / "cases.json").read_text())
    assert listed[f"gi_tract_uwm_2d/{cases[0]}"]["organs"]["large_bowel"] == [[2, 3, 6, 7], [2, 5]]
    condition = load_weights(training / "last.pt")["settings"]["features"]
    assert list(condition) == VARIANTS[variant].get("film_features", [])


@pytest.mark.parametrize("auxiliary", ["contrast", "momentum_contrast"])
def test_slices_without_neighbours_cannot_be_contrasted_with_them(auxiliary: str, train: Callable[..., Path]) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(f"refused-{auxiliary}", auxiliary=auxiliary)
    refusal = str(mendable(caught.value))
    assert refusal.startswith("pairs: is 2, more pairs of neighbouring slices than these scans give: gi_tract_uwm_2d/")
    assert refusal.endswith("contrast of neighbouring slices needs scans of several slices; train without it")


@pytest.mark.slow
def test_network_finds_every_organ_in_the_slices_that_it_was_trained_on(
    train: Callable[..., Path], slices: Path
) -> None:
    """It says nothing of other patients; what it does there is a matter for studies."""
    longer = {"epochs": 10, "iterations_per_epoch": 40, "batch_size": 8, "learning_rate": 3e-3, "image_size": [64, 64]}
    training = train("longer", **{**longer, "network_defs#small_unet#base_channels": 8})
    rows = rows_of(evaluate(training, slices, part="training", allow_seen=True, overlays=False) / "scores.csv")
    for organ in ("stomach", "large_bowel", "small_bowel"):
        dice = [float(row["dice"]) for row in rows if row["organ"] == organ and row["dice"]]
        assert np.mean(dice) > 0.6, organ


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"auxiliary": "position"},
        {"auxiliary": "contrast", "pairs": 2},
        {"film": True, "film_features": ["slice_position", "image_height", "image_width"]},
    ],
    ids=["position", "contrast", "film"],
)
def test_slices_of_hearts_know_their_neighbours_and_their_position(
    options: dict[str, Any], real_data: Path, tmp_path: Path
) -> None:
    hearts = acdc(real_data, tmp_path / "acdc")
    given = {"dataset_dir": str(hearts), "store_dir": str(tmp_path / "store"), "output_dir": str(tmp_path / "train")}
    training = run_gi_tract("train", {**SHARES, **SMALL, **given, **options})
    scores = evaluate(training, hearts)
    rows = rows_of(scores / "scores.csv")
    assert {row["organ"] for row in rows} == {"right ventricle", "myocardium", "left ventricle"}
    # two of ten patients, each in two phases
    assert len({row["case"] for row in rows}) == 2 * len({row["group"] for row in rows})
    for path in (scores / "predictions").glob("*.nii.gz"):
        image = nibabel.load(hearts / "images" / path.name.removeprefix("acdc_").replace("_seg", ""))
        found = nibabel.load(path)
        assert found.shape == image.shape
        assert np.allclose(found.affine, image.affine)

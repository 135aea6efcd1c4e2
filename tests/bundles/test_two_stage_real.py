"""Real hearts slice by slice, real left atria in 3D, real X-rays, at a scale of seconds: the path, not the method."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from two_stage_runs import LOSS_OF, TINY_3D, losses_of, pretraining_in_process, run_two_stage

from mtmed.bundle import patient_digests
from mtmed.bundle.messages import mendable
from mtmed.data import load_cohort, split_parts, unlabelled_pool
from mtmed.networks.weights import load_weights
from mtmed.transforms.reading import read_volume

sys.path.insert(0, str(Path(__file__).parents[1]))
from real_cohorts import acdc, left_atrium, pneumothorax_siim

pytestmark = pytest.mark.real

TINY: dict[str, Any] = {
    "device": "cpu",
    "precision": "float32",
    "epochs": 1,
    "iterations_per_epoch": 2,
    "batch_size": 4,
    "network_defs#small_unet#base_channels": 4,
    "image_size": [32, 32],
}
# three labelled patients, two without labels; two choose, three are looked at once
HEARTS = {"shares": [50, 20, 30], "fraction": 60}
HEART_ORGANS = {"right ventricle": 1, "myocardium": 2, "left ventricle": 3}
ATRIA = {"shares": [40, 20, 40]}
THIRDS = {"shares": [34, 33, 33]}
POSITIVE = "1.2.276.0.7230010.3.1.4.8323329.5797.1517875190.762694"
POSITIVE_PIXELS = 18_648


@pytest.fixture(scope="module")
def folders(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a cohort of real images, written once."""
    out = tmp_path_factory.mktemp("real")
    write = {"acdc": acdc, "left_atrium": left_atrium, "pneumothorax_siim": pneumothorax_siim}

    def of(name: str) -> Path:
        folder = out / name
        if not folder.exists():
            folder.mkdir()
            write[name](real_data, folder)
        return folder

    return of


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains on a cohort; returns the folder."""
    out = tmp_path_factory.mktemp("runs")

    def start(name: str, data: Path, **more: Any) -> Path:
        given = {"dataset_dir": str(data), "store_dir": str(out / "store"), "output_dir": str(out / name)}
        with pretraining_in_process():
            return run_two_stage("stage1", {**TINY, **given, **more})

    return start


def evaluate(training: Path, data: Path, **more: Any) -> Path:
    """Score the test part with the best network of a training; returns the folder."""
    given = {"dataset_dir": str(data), "checkpoint": str(training / "model.pt"), "part": "test", "device": "cpu"}
    return run_two_stage("evaluate", {**given, "output_dir": str(training) + "-scores", **more})


def infer(checkpoint: Path, images: Path, out: Path) -> list[Path]:
    """Segment a folder of images; returns the label maps."""
    given = {"checkpoint": str(checkpoint), "input": str(images), "output_dir": str(out), "device": "cpu"}
    return sorted(run_two_stage("inference", given).rglob("*_seg.nii.gz"))


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_on_the_grid(prediction: Path, image: Path, organs: int) -> None:
    """A packed label map with the shape and the place of the image, as the reading says them."""
    found, volume = nibabel.load(prediction), read_volume(image)
    assert found.shape == volume.data.shape
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-4)
    assert set(np.unique(np.asarray(found.dataobj))) <= set(range(1 << organs))


# --- hearts, slice by slice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"task": "all", "queue_size": 16},
        {"task": "in_painting", "mode": "pretrained", "unlabelled": True},
    ],
    ids=["all_joint", "in_painting_pretrained_unlabelled"],
)
def test_hearts_of_held_out_patients_are_scored_on_their_own_grid(
    options: dict[str, Any], folders: Callable[[str], Path], train: Callable[..., Path]
) -> None:
    data = folders("acdc")
    training = train(f"hearts-{options['task']}", data, **HEARTS, **options)
    scores = evaluate(training, data, **HEARTS)
    rows = rows_of(scores / "slices.csv")
    assert {row["organ"] for row in rows} == set(HEART_ORGANS)
    cohort = load_cohort(data)
    parts = split_parts(cohort.cases, **HEARTS)
    tested = {case.group for case in parts.test}
    assert {row["group"] for row in rows} == tested
    assert len(tested) == len({case.group for case in parts.training}) == 3
    pool = unlabelled_pool(cohort, parts) if options.get("unlabelled") else ()
    trained_on = load_weights(training / "model.pt")["settings"]["trained_on"]
    assert trained_on == patient_digests([*parts.training, *pool])
    for row in rows:
        label = nibabel.load(data / "labels" / f"{row['case']}.nii.gz")
        drawn = np.asarray(label.dataobj)[..., int(row["slice"]) - 1] == HEART_ORGANS[row["organ"]]
        assert int(row["reference_voxels"]) == drawn.sum()
        assert 0 < float(row["highest_probability"]) < 1
    assert len(list((scores / "overlays").iterdir())) == len(parts.test) == 6
    for path in (scores / "predictions").glob("*.nii.gz"):
        name = path.name.removeprefix("acdc_").replace("_seg", "")
        assert_on_the_grid(path, data / "images" / name, organs=3)


def test_images_without_labels_are_of_no_patient_that_is_held_out(folders: Callable[[str], Path]) -> None:
    cohort = load_cohort(folders("acdc"))
    parts = split_parts(cohort.cases, **HEARTS)
    pool = unlabelled_pool(cohort, parts)
    known = {case.group for part in (parts.training, parts.validation, parts.test) for case in part}
    assert len({case.group for case in pool}) == 2
    assert not known & {case.group for case in pool}
    assert all(case.label is None for case in pool)


# --- left atria in 3D ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "task"),
    [
        ("unet3d", "inner_distance"),
        pytest.param("unet3d", "jigsaw", marks=pytest.mark.slow),
        ("unetr", "in_painting"),
        pytest.param("unetr", "jigsaw", marks=pytest.mark.slow),
    ],
)
def test_left_atria_are_segmented_in_3d_on_their_own_grid(
    network: str, task: str, folders: Callable[[str], Path], train: Callable[..., Path], tmp_path: Path
) -> None:
    data = folders("left_atrium")
    given = {**TINY, **TINY_3D[network], "task": task, "spacing": [4.0, 4.0, 4.0], "batch_size": 2}
    given = {name: value for name, value in given.items() if "small_unet" not in name and name != "image_size"}
    training = train(f"atria-{network}-{task}", data, **ATRIA, **given)
    assert len(losses_of(training)) == 2
    assert all(np.isfinite(row[LOSS_OF[task]]) for row in losses_of(training))
    best = json.loads((training / "best.json").read_text())
    assert best["metric"] == "scan_dice"
    assert 0 <= best["value"] <= 1
    found = infer(training / "model.pt", data / "images", tmp_path / "predictions")
    assert len(found) == 5
    for path in found:
        assert_on_the_grid(path, data / "images" / path.name.replace("_seg", ""), organs=1)


# --- chest X-rays -------------------------------------------------------------------------------------------------


def positive_part(data: Path, fold: int) -> str:
    """The part in which the one image with a pneumothorax is."""
    parts = split_parts(load_cohort(data).cases, **THIRDS, fold=fold)
    (part,) = (
        name for name in ("training", "validation", "test") if POSITIVE in {case.id for case in parts.part(name)}
    )
    return part


def fold_with(data: Path, part: str) -> int:
    """The fold in which the image with a pneumothorax is in a part."""
    return next(fold for fold in range(3) if positive_part(data, fold) == part)


def test_x_rays_in_dicom_and_png_are_segmented_on_their_own_grid(
    folders: Callable[[str], Path], trained_two_stage: Callable[..., Path], tmp_path: Path
) -> None:
    data = folders("pneumothorax_siim")
    for part, count in (("images", 3), ("unlabelled", 8)):
        found = infer(trained_two_stage("none") / "model.pt", data / part, tmp_path / part)
        assert len(found) == count
        images = {path.stem: path for path in (data / part).iterdir()}
        for path in found:
            assert_on_the_grid(path, images[path.name.removesuffix("_seg.nii.gz")], organs=1)
    assert {image.suffix for image in (data / "images").iterdir()} == {".png", ".dcm"}


def test_the_table_and_images_without_labels_reach_training_and_scores(
    folders: Callable[[str], Path], train: Callable[..., Path]
) -> None:
    """Three labelled X-rays are too few to learn from; that they are read is what is shown."""
    data = folders("pneumothorax_siim")
    choosing = train(
        "x-rays", data, **THIRDS, fold=fold_with(data, "validation"), task="momentum_contrast", unlabelled=True
    )
    assert json.loads((choosing / "best.json").read_text())["value"] is not None
    fold = fold_with(data, "test")
    scores = evaluate(choosing, data, **THIRDS, fold=fold, allow_seen=True)
    (row,) = rows_of(scores / "slices.csv")
    assert (row["case"], int(row["reference_voxels"])) == (POSITIVE, POSITIVE_PIXELS)
    # one class only: there is no curve
    assert json.loads((scores / "summary.json").read_text())["image_auc"]["pneumothorax"]["value"] is None


def test_x_rays_without_a_pneumothorax_cannot_choose(
    folders: Callable[[str], Path], train: Callable[..., Path]
) -> None:
    data = folders("pneumothorax_siim")
    with pytest.raises(RuntimeError) as caught:
        train("negative", data, **THIRDS, fold=fold_with(data, "training"))
    assert str(mendable(caught.value)).startswith("validation: is all-negative: its only case lacks pneumothorax")

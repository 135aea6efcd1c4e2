"""The two-stage bundle's inference and evaluation: masks on the image's own grid, and what scores count."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from gi_tract_oracles import Ramp, ReadOut, oracle_settings, packed
from gi_tract_runs import PIXEL, SHAPE, write_slices
from image_grids import GEOMETRIES, as_slices, turned, turned_back, voxels, write
from numpy.typing import NDArray
from PIL import Image
from two_stage_runs import run_two_stage

from mtmed.bundle.messages import mendable
from mtmed.data.demo.dicom_file import write_dicom
from mtmed.networks import load_network
from mtmed.transforms.relative_run_length import encode_relative_run_lengths

SIZE = [SHAPE[1], SHAPE[2]]


def run_oracle(stage: str, folder: Path, network: torch.nn.Module, given: dict[str, Any], **settings: Any) -> Path:
    """Run a stage into ``folder/out`` with a network that knows the answer in the place of one from a file."""
    (folder / "model.pt").write_bytes(b"oracle")
    settings = {**oracle_settings(SIZE, patch_size=None, spacing=None), **settings}
    own = {"checkpoint": str(folder / "model.pt"), "device": "cpu", "network_def": network, "settings": settings}
    return run_two_stage(stage, {**own, "run": ["$@evaluator.run()"], "output_dir": str(folder / "out"), **given})


IN_3D = {"slice_offsets": None, "image_size": None, "patch_size": [4, 12, 12]}
KINDS: dict[str, dict[str, Any]] = {"slices": {}, "volumes": IN_3D}


# --- the right place ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [n for n in GEOMETRIES if n != "as_png_slices"])
def test_masks_of_a_volume_come_back_on_its_grid(name: str, kind: str, tmp_path: Path) -> None:
    affine, label = GEOMETRIES[name], packed()
    own = turned(label, affine)
    image = write(tmp_path / "scan.nii.gz", own.astype(np.int16) * 40, affine)
    out = run_oracle("inference", tmp_path, ReadOut(), {"input": image}, **KINDS[kind])
    written = nib.load(out / "scan_seg.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), own)


RESIZED: dict[str, dict[str, Any]] = {
    "slices": {"image_size": [17, 29]},
    "volumes": {**IN_3D, "patch_size": [8, 16, 16], "spacing": [3.7, 2.9, 2.2]},
}


@pytest.mark.parametrize("kind", RESIZED)
@pytest.mark.parametrize("name", ["slices_first", "oblique"])
def test_resampling_moves_no_edge(name: str, kind: str, tmp_path: Path) -> None:
    """A slope of grey stays one when it is resampled and brought back, so its contours must lie where they were."""
    z, y, x = np.indices(SHAPE).astype(float)
    slope = 2 * x + 0.9 * y + 0.1 * z
    image = write(tmp_path / "scan.nii.gz", turned(500 * slope, GEOMETRIES[name]).astype(np.float32), GEOMETRIES[name])
    # the grey values of the whole scan are its range, as resampling across slices would else change each slice's
    settings = {**RESIZED[kind], "normalise_per": "scan"}
    out = run_oracle("inference", tmp_path, Ramp(), {"input": image}, **settings)
    label = turned_back(voxels(out / "scan_seg.nii.gz"), GEOMETRIES[name])
    for organ, threshold in enumerate(Ramp().thresholds):
        expected = slope / slope.max() - threshold
        mask = label >> organ & 1
        # a sixth of a pixel off the edge there is no doubt
        clear = abs(expected) * slope.max() > 2 / 6
        np.testing.assert_array_equal(mask[clear], expected[clear] > 0)
        assert clear.mean() > 0.9


@pytest.mark.parametrize("bright_air", [False, True])
def test_masks_of_an_x_ray_come_back_as_they_were(bright_air: bool, tmp_path: Path) -> None:
    label = packed()[3]
    grey = label * 30
    stored = 255 - grey if bright_air else grey
    fields = {"0008,0018 UI": "2.25.7", "0008,0060 CS": "CR"}
    (tmp_path / "study").mkdir()
    write_dicom(tmp_path / "study" / "chest.dcm", stored, pixel=1.4, bright_air=bright_air, fields=fields)
    # where air is bright, 255 is the darkest value that the file may hold, and the range is stretched to the image's
    for source in ("study", "study/chest.dcm"):
        given = {"input": str(tmp_path / source), "output_dir": str(tmp_path / f"out_{Path(source).stem}")}
        written = nib.load(run_oracle("inference", tmp_path, ReadOut(), given) / "chest_seg.nii.gz")
        assert written.shape == (SHAPE[2], SHAPE[1], 1)
        np.testing.assert_array_equal(as_slices(np.asarray(written.dataobj))[0], label)
        np.testing.assert_allclose(np.abs(np.diag(written.affine)[:2]), 1.4)


def test_masks_of_png_images_come_back_as_they_were(tmp_path: Path) -> None:
    label = packed()
    Image.fromarray(label[3] * 30).save(tmp_path / "chest.png")
    out = run_oracle("inference", tmp_path, ReadOut(), {"input": str(tmp_path / "chest.png")})
    np.testing.assert_array_equal(as_slices(voxels(out / "chest_seg.nii.gz"))[0], label[3])
    write_slices(tmp_path / "case7_day3" / "scans", label.astype(np.uint16) * 9000)
    given = {"input": str(tmp_path / "case7_day3" / "scans")}
    out = run_oracle("inference", tmp_path, ReadOut(), given, normalise_per="scan")
    written = nib.load(out / "case7_day3_seg.nii.gz")
    np.testing.assert_array_equal(as_slices(np.asarray(written.dataobj)), label)
    np.testing.assert_allclose(np.abs(np.diag(written.affine)), [PIXEL, PIXEL, 3, 1])


# --- trained networks ---------------------------------------------------------------------------------------------


def test_unlabelled_x_rays_are_segmented_by_default(
    trained_two_stage: Any, two_stage_options: Any, tmp_path: Path
) -> None:
    checkpoint = trained_two_stage("none") / "model.pt"
    given = two_stage_options("inference", checkpoint=str(checkpoint), output_dir=str(tmp_path / "out"))
    out = run_two_stage("inference", given)
    assert len(list(out.glob("*_seg.nii.gz"))) == 8
    shapes = {voxels(path).shape for path in out.glob("*_seg.nii.gz")}
    assert shapes == {(128, 128, 1), (112, 128, 1)}
    record = json.loads(next(out.glob("*_seg.json")).read_text())
    assert record["organs"] == ["pneumothorax"]
    assert record["model_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_an_ensemble_averages_probabilities(trained_two_stage: Any, tmp_path: Path) -> None:
    paths = [str(trained_two_stage(task) / "model.pt") for task in ("none", "inner_distance", "rotation")]
    grey = np.random.default_rng(5).integers(0, 255, (16, 16)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "chest.png")
    image = torch.from_numpy((grey - grey.min()) / np.ptp(grey)).float()[None, None]
    with torch.no_grad():
        each = [torch.sigmoid(load_network(path)[0].eval()(image))[0, 0].numpy() for path in paths]
    expected = np.mean(each, 0)
    threshold = float(np.median(expected))
    given = {"checkpoint": paths[0], "ensemble_with": paths[1:], "threshold": threshold, "device": "cpu"}
    given |= {"input": str(tmp_path / "chest.png"), "output_dir": str(tmp_path / "out")}
    out = run_two_stage("inference", given)
    clear = abs(expected - threshold) > 1e-5
    found = as_slices(voxels(out / "chest_seg.nii.gz"))[0]
    np.testing.assert_array_equal(found[clear], expected[clear] > threshold)
    assert (found > 0).any()
    assert (found == 0).any()
    assert ((each[0] > threshold) != (expected > threshold)).any()
    record = json.loads((out / "chest_seg.json").read_text())
    assert record["ensemble_sha256"] == [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths[1:]]


# --- scores -------------------------------------------------------------------------------------------------------


class Shadow(torch.nn.Module):
    """One organ where the grey value is above a half; surer of it the darker the image is on the whole."""

    definition = {"_target_": "shadow"}  # noqa: RUF012
    condition_features = ()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        sure = 1.5 - image.mean((1, 2, 3), keepdim=True)
        return 4 * sure * (image - 0.5)


class Film(NamedTuple):
    """An X-ray of the hand-made cohort."""

    grey: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    @property
    def found(self) -> NDArray[np.bool_]:
        return self.scaled > 0.5

    @property
    def scaled(self) -> NDArray[np.float64]:
        return (self.grey - self.grey.min()) / np.ptp(self.grey).astype(float)

    @property
    def highest(self) -> float:
        return float(1 / (1 + np.exp(-4 * (1.5 - self.scaled.mean()) * 0.5)))


def films() -> dict[str, Film]:
    """Twelve images; every third shows the organ; some predictions miss it, some find it where there is none."""
    made = {}
    for number in range(12):
        generator = np.random.default_rng([3, number])
        mask, seen = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
        if number % 3 == 0:
            mask[4:12, 3:9] = True
        if number % 3 == 0 and number != 6:
            seen[6:14, 3 : 8 + number // 3] = True
        if number in (1, 6, 8):
            seen[15:18, 15:20] = True
        grey = np.where(seen, generator.integers(160, 250, SIZE), generator.integers(10, 100, SIZE))
        grey[0, 0] = 0
        # the range of an image without a finding ends where the organ would begin
        grey[0, 1] = 255 if seen.any() else 2 * grey.max()
        made[f"film{number}"] = Film(grey.clip(0, 255).astype(np.uint8), mask)
    return made


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of these X-rays as DICOM files in the layout of SIIM-ACR."""
    folder = tmp_path_factory.mktemp("films")
    rows, training = [("ImageId", " EncodedPixels")], []
    for name, film in films().items():
        fields = {"0008,0018 UI": "2.25.7", "0008,0060 CS": "CR"}
        write_dicom(folder / f"{name}.dcm", film.grey, pixel=1.4, bright_air=False, fields=fields)
        rows.append((name, encode_relative_run_lengths(film.mask) if film.mask.any() else " -1"))
        training.append({"image": f"./{name}.dcm", "id": name, "patient": name, "label": "./train-rle.csv"})
    with (folder / "train-rle.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    labels = {"0": "background", "1": "pneumothorax"}
    content = {"name": "Films", "modality": {"0": "CR"}, "labels": labels, "overlapping": True, "training": training}
    (folder / "dataset.json").write_text(json.dumps({**content, "test": []}))
    return folder


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum())) if one.any() or other.any() else 1.0


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_scores_say_what_they_count(empty: str, hand_made: Path, tmp_path: Path) -> None:
    given = {"dataset_dir": str(hand_made), "cases": "$@cohort.cases", "empty": empty, "overlays": empty == "nan"}
    one_organ = {"organs": ["pneumothorax"], "label_names": {"0": "background", "1": "pneumothorax"}}
    out = run_oracle("evaluate", tmp_path, Shadow(), given, modalities=["CR"], **one_organ)
    known = films()
    pairs = [(film.found, film.mask) for film in known.values()]
    over_all = [dice(found, mask) for found, mask in pairs]
    over_positive = [value for value, (_, mask) in zip(over_all, pairs, strict=True) if mask.any()]
    assert len(over_positive) == 4
    assert sum(found.any() and not mask.any() for found, mask in pairs) >= 2
    summary = json.loads((out / "summary.json").read_text())
    pooled = summary["pooled"]["organs"]["pneumothorax"]
    assert pooled["positive_slice_dice"]["mean"] == pytest.approx(np.mean(over_positive))
    assert pooled["slice_dice_empty_one"]["mean"] == pytest.approx(np.mean(over_all))
    positives = [film.highest for film in known.values() if film.mask.any()]
    negatives = [film.highest for film in known.values() if not film.mask.any()]
    ranks = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    area = summary["image_auc"]["pneumothorax"]
    assert area["value"] == pytest.approx(np.mean(ranks))
    assert 0.05 < area["value"] < 0.95
    assert (area["positives"], area["negatives"]) == (4, 8)
    with (out / "slices.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert float(row["highest_probability"]) == pytest.approx(known[row["case"]].highest, rel=1e-5)


def test_a_part_is_scored_that_the_network_has_not_seen(
    trained_two_stage: Any, two_stage_options: Any, tmp_path: Path
) -> None:
    given = two_stage_options("evaluate", checkpoint=str(trained_two_stage("none") / "model.pt"), overlays=False)
    scored: dict[str, set[str]] = {}
    for part in ("validation", "test"):
        out = run_two_stage("evaluate", {**given, "part": part, "output_dir": str(tmp_path / part)})
        with (out / "scores.csv").open(newline="") as file:
            scored[part] = {row["group"] for row in csv.DictReader(file)}
    assert [len(groups) for groups in scored.values()] == [4, 4]
    assert not scored["validation"] & scored["test"]
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run_two_stage("evaluate", {**given, "part": "training", "output_dir": str(tmp_path / "seen")})
    assert "are of patients that the network was trained on" in str(mendable(caught.value))

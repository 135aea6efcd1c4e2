"""The GI tract bundle's inference: masks on the image's own grid, from slices, single images and volumes."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from gi_tract_oracles import Ramp, ReadOut, packed, run_oracle
from gi_tract_runs import ORGANS, PIXEL, SHAPE, SLICE_DISTANCE, paint_abdomen, run_gi_tract, write_slices
from image_grids import GEOMETRIES, affine_of, as_slices, turned, turned_back, voxels, write
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from PIL import Image

from mtmed.networks import load_network
from mtmed.networks.weights import load_weights

SIZE = [SHAPE[1], SHAPE[2]]
GREY_STEP = 9000  # of one packed value


# --- the right place ----------------------------------------------------------------------------------------------


def test_masks_of_png_slices_come_back_as_they_were(tmp_path: Path) -> None:
    label = packed()
    assert set(np.unique(label)) == set(range(8))
    write_slices(tmp_path / "case7_day3" / "scans", label.astype(np.uint16) * GREY_STEP)
    out = run_oracle("inference", tmp_path, ReadOut(), SIZE, input=str(tmp_path / "case7_day3" / "scans"))
    written = nib.load(out / "case7_day3_seg.nii.gz")
    np.testing.assert_array_equal(as_slices(np.asarray(written.dataobj)), label)
    assert written.get_data_dtype() == np.uint8
    # columns grow to the patient's left, rows to the back, slices to the head
    np.testing.assert_allclose(np.diag(written.affine), [-PIXEL, -PIXEL, SLICE_DISTANCE, 1])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_masks_of_a_volume_come_back_on_its_grid(name: str, tmp_path: Path) -> None:
    affine, label = GEOMETRIES[name], packed()
    own = turned(label, affine)
    image = write(tmp_path / "scan.nii.gz", own.astype(np.int16) * 40, affine)
    out = run_oracle("inference", tmp_path, ReadOut(), SIZE, input=image)
    written = nib.load(out / "scan_seg.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), own)


@pytest.mark.parametrize("size", [[40, 48], [16, 16], [17, 29]])
@pytest.mark.parametrize("name", ["png", "slices_first", "oblique"])
def test_resizing_moves_no_edge(name: str, size: list[int], tmp_path: Path) -> None:
    """A slope of grey stays one when it is resized and resized back, so its contours must lie where they were."""
    z, y, x = np.indices(SHAPE).astype(float)
    slope = 2 * x + 0.9 * y + 0.1 * z
    grey = 500 * slope
    if name == "png":
        write_slices(tmp_path / "case7_day3" / "scans", np.rint(grey))
        image, stem = str(tmp_path / "case7_day3"), "case7_day3"
    else:
        image = write(tmp_path / "scan.nii.gz", turned(grey, GEOMETRIES[name]).astype(np.float32), GEOMETRIES[name])
        stem = "scan"
    out = run_oracle("inference", tmp_path, Ramp(), size, input=image)
    found = voxels(out / f"{stem}_seg.nii.gz")
    label = as_slices(found) if name == "png" else turned_back(found, GEOMETRIES[name])
    for organ, threshold in enumerate(Ramp().thresholds):
        expected = slope / slope.max() - threshold
        mask = label >> organ & 1
        # a sixth of a pixel off the edge there is no doubt
        clear = abs(expected) * slope.max() > 2 / 6
        np.testing.assert_array_equal(mask[clear], expected[clear] > 0)
        assert clear.mean() > 0.9


# --- what may be predicted ----------------------------------------------------------------------------------------


def test_tree_of_scans_gives_a_label_map_each(tmp_path: Path) -> None:
    labels = {"case7_day3": packed(1), "case7_day5": packed(2), "case9_day3": packed(3)}
    for name, label in labels.items():
        folder = tmp_path / "tree" / name.split("_")[0] / name / "scans"
        write_slices(folder, label.astype(np.uint16) * GREY_STEP)
    out = run_oracle("inference", tmp_path, ReadOut(), SIZE, input=str(tmp_path / "tree"))
    assert {path.name for path in out.glob("*.nii.gz")} == {f"{name}_seg.nii.gz" for name in labels}
    for name, label in labels.items():
        np.testing.assert_array_equal(as_slices(voxels(out / f"{name}_seg.nii.gz")), label)


@pytest.mark.parametrize("bits", [8, 16])
def test_single_image_is_a_scan_of_one_slice(bits: int, tmp_path: Path) -> None:
    label = packed()[3]
    grey = (label.astype(np.uint16) * (GREY_STEP if bits == 16 else 30)).astype(np.uint8 if bits == 8 else np.uint16)
    Image.fromarray(grey).save(tmp_path / "belly.png")
    out = run_oracle("inference", tmp_path, ReadOut(), SIZE, input=str(tmp_path / "belly.png"))
    found = voxels(out / "belly_seg.nii.gz")
    assert found.shape == (SHAPE[2], SHAPE[1], 1)
    np.testing.assert_array_equal(as_slices(found)[0], label)


def test_scans_without_labels_are_segmented_by_default(
    trained_gi_tract: Any, gi_tract_options: Any, tmp_path: Path
) -> None:
    checkpoint = trained_gi_tract("plain") / "model.pt"
    given = gi_tract_options("inference", checkpoint=str(checkpoint), output_dir=str(tmp_path / "out"))
    out = run_gi_tract("inference", given)
    (written,) = out.glob("*.nii.gz")
    assert written.name == "case301_day1_seg.nii.gz"
    assert voxels(written).shape == SHAPE[::-1]
    record = json.loads(written.with_name("case301_day1_seg.json").read_text())
    assert record["organs"] == list(ORGANS)
    assert record["label_names"]["3"] == "large_bowel + small_bowel"
    assert record["model_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record["network_def"]["_target_"] == "mtmed.networks.SmallUNet"


@pytest.mark.parametrize("variant", ["plain", "film"])
def test_inference_feeds_the_network_what_training_fed_it(variant: str, trained_gi_tract: Any) -> None:
    folder = trained_gi_tract(variant)
    training = ConfigParser(json.loads((folder / "config.json").read_text()))
    dataset = training.get_parsed_content("validate#dataset")
    for stage in ("inference", "evaluate"):
        parser = ConfigParser()
        parser.read_config(str(Path(__file__).parents[2] / "bundles" / "gi_tract" / f"{stage}.json"))
        parser.update({"checkpoint": str(folder / "model.pt"), "device": "cpu"})
        preprocessing = parser.get_parsed_content("preprocessing")
        for index, volume in enumerate(dataset.volumes):
            given = {"image": list(volume.case.image), "metadata": volume.case.metadata}
            fed, kept = preprocessing(given)["image"], dataset[index]["image"]
            assert fed.shape == kept.shape
            np.testing.assert_allclose(fed, kept, rtol=1e-6, atol=1e-4)


# --- metadata and several networks --------------------------------------------------------------------------------


@pytest.fixture
def listening(trained_gi_tract: Any, tmp_path: Path) -> Path:
    """Weights of a network whose modulation has been made strong."""
    content = load_weights(trained_gi_tract("film") / "model.pt")
    torch.manual_seed(5)
    for name, value in content["model"].items():
        if name.startswith(("film.scale.4", "film.shift.4")):
            content["model"][name] = torch.randn_like(value)
    torch.save(content, tmp_path / "film.pt")
    return tmp_path / "film.pt"


def probabilities(checkpoint: Path, grey: NDArray[Any], planes: list[list[float]] | None = None) -> NDArray[Any]:
    """Of slices of the network's own size, D K H W."""
    network, settings = load_network(checkpoint)
    assert settings["normalise_per"] == "slice"
    low, high = (bound((1, 2), keepdims=True) for bound in (grey.astype(np.float64).min, grey.astype(np.float64).max))
    image = torch.from_numpy((grey - low) / (high - low)).float()[:, None]
    if planes is not None:
        known = torch.tensor(planes)[:, :, None, None].expand(-1, -1, *grey.shape[1:])
        image = torch.cat([image, known], 1)
    with torch.no_grad():
        return torch.sigmoid(network.eval()(image)).numpy()


def bits(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Masks D K H W of a written label map."""
    return (as_slices(array)[:, None] >> np.arange(3)[:, None, None] & 1).astype(bool)


def assert_predicts(found: NDArray[Any], expected: NDArray[Any], threshold: float = 0.5) -> None:
    clear = abs(expected - threshold) > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(bits(found)[clear], expected[clear] > threshold)


@pytest.fixture
def grey16() -> NDArray[np.uint16]:
    """A scan of the network's own size, so that nothing is resized."""
    return paint_abdomen(40)[0][:, 2:18, 4:20]


def infer(folder: Path, **more: Any) -> Path:
    return run_gi_tract("inference", {"device": "cpu", "output_dir": str(folder / "out"), **more})


def test_film_network_is_told_what_is_known(listening: Path, grey16: NDArray[np.uint16], tmp_path: Path) -> None:
    write_slices(tmp_path / "tree" / "case7_day30" / "scans", grey16)
    out = infer(tmp_path, checkpoint=str(listening), input=str(tmp_path / "tree"), threshold=0.4)
    known = [[i / 7, 30.0, PIXEL, PIXEL, 16.0, 16.0] for i in range(8)]
    expected = probabilities(listening, grey16, known)
    assert_predicts(voxels(out / "case7_day30_seg.nii.gz"), expected, 0.4)
    other = probabilities(listening, grey16, [[i / 7, 0.0, PIXEL, PIXEL, 16.0, 16.0] for i in range(8)])
    assert (abs(expected - other) > 0.01).any()


def test_film_network_takes_an_image_whose_metadata_are_unknown(
    listening: Path, grey16: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = write(tmp_path / "scan.nii.gz", grey16.transpose(2, 1, 0), affine_of("LPS", (3.5, 3.5, 3.0)))
    out = infer(tmp_path, checkpoint=str(listening), input=image)
    # the day is not known
    expected = probabilities(listening, grey16, [[i / 7, np.nan, PIXEL, PIXEL, 16.0, 16.0] for i in range(8)])
    assert_predicts(voxels(out / "scan_seg.nii.gz"), expected)


def test_ensemble_averages_probabilities_of_networks_with_and_without_film(
    listening: Path, trained_gi_tract: Any, gi_tract_config: Any, grey16: NDArray[np.uint16], tmp_path: Path
) -> None:
    plain, other = (trained_gi_tract(name) / "model.pt" for name in ("plain", "contrast"))
    write_slices(tmp_path / "case7_day30" / "scans", grey16)
    known = [[i / 7, 30.0, PIXEL, PIXEL, 16.0, 16.0] for i in range(8)]
    expected = np.mean([probabilities(plain, grey16), probabilities(other, grey16)], 0) * 2 / 3
    expected = expected + probabilities(listening, grey16, known) / 3
    given = {"device": "cpu", "input": str(tmp_path / "case7_day30" / "scans"), "threshold": float(np.median(expected))}
    (overlay,) = gi_tract_config("ensemble")
    for order in ([plain, listening, other], [listening, other, plain]):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        given |= {"checkpoints": [str(path) for path in order], "output_dir": str(tmp_path / "out")}
        out = run_gi_tract("inference", given, overlay)
        assert_predicts(voxels(out / "case7_day30_seg.nii.gz"), expected, given["threshold"])
        record = json.loads((out / "case7_day30_seg.json").read_text())
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in order]
        assert [record["model_sha256"], *record["ensemble_sha256"]] == digests

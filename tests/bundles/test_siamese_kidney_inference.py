"""The kidney bundle's inference: label maps on the image's own grid, whatever its orientation, size and windows."""

import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from siamese_kidney_runs import HIDDEN, SETTINGS, paint_kidneys, run_siamese, slices_first_affine

from mtmed.bundle.messages import mendable
from mtmed.data import VolumePart, VolumeStore
from mtmed.networks import build_network, save_network

HALF = {"part": "half", "window_size": [0.5, -1, -1]}
DEFINITION = {
    "_target_": "mtmed.networks.DenseUNet",
    "in_channels": 1,
    "out_channels": 2,
    "block_layers": [1, 1, 1, 1],
    "growth": [4, 4, 4, 4],
}


def write(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return str(path)


def in_ras(array: NDArray[Any]) -> NDArray[Any]:
    """From I, P, L to R, A, S."""
    return array.transpose(2, 1, 0)[::-1, ::-1, ::-1].copy()


def normalised(hu: NDArray[Any]) -> torch.Tensor:
    window = (np.clip(hu.astype(np.float64), -80, 300) + 80) / 380
    return torch.from_numpy((window - window.mean()) / window.std()).float()


def voxels(path: str | Path) -> NDArray[Any]:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture
def network(tmp_path: Path) -> torch.nn.Module:
    """A random network, saved as model.pt, that sees kidney in about a tenth of a scan."""
    torch.manual_seed(3)
    network = build_network(DEFINITION).eval()
    with torch.no_grad():
        logits = network(normalised(in_ras(paint_kidneys(0)[0]))[None, None])
        network.final_conv.bias[1] -= torch.quantile((logits[:, 1] - logits[:, 0]).flatten(), 0.9)
    save_network(tmp_path / "model.pt", network, SETTINGS)
    return network


def infer(folder: Path, **more: Any) -> Path:
    given = {"checkpoint": str(folder / "model.pt"), "output_dir": str(folder / "out"), "device": "cpu", **more}
    return run_siamese("inference", given)


def agree(written: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Equal but for voxels where two float sums of logits tie."""
    return written.shape == expected.shape and bool((written != expected).mean() < 1e-3) and 0 < expected.mean() < 0.5


# --- geometry -----------------------------------------------------------------------------------------------------


class Oracle(torch.nn.Module):
    """Kidney where the image is far above the body."""

    definition = {"_target_": "oracle"}  # noqa: RUF012

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        kidney = image[:, 0] > 0.6 * image.max() + 0.4 * image.min()
        return torch.stack([~kidney, kidney], 1).float()


def affine_of(axes: str, spacing: tuple[float, float, float], angle: float = 0.0) -> NDArray[np.float64]:
    """Affine of arrays whose axes grow to the given sides, turned about the head-feet axis and tilted by the half."""
    turn, tilt = np.eye(3), np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilt[1:, 1:] = [[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]]
    directions = np.array([[a == "R", a == "A", a == "S"] for a in axes], float)
    directions -= np.array([[a == "L", a == "P", a == "I"] for a in axes], float)
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ directions.T * np.asarray(spacing)
    return affine


GEOMETRIES = {
    "slices_first": affine_of("IPL", (7.0, 3.5, 3.5)),
    "usual_ct": affine_of("LPS", (3.7, 3.7, 6.0)),
    "mirrored": affine_of("RAI", (4.1, 3.9, 5.0)),
    "oblique": affine_of("LPS", (4.0, 4.0, 5.0), angle=0.3),
}


def paint_in_space(affine: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.float64]]:
    """HU, kidneys and affine of a body that is known at every point; the left kidney is higher than the right."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shape = tuple(int(np.ceil(190 / step)) for step in spacing)
    affine = affine.copy()
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    x, y, z = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3, None, None, None]
    body = (x / 85) ** 2 + (y / 65) ** 2 < 1
    kidney = np.zeros(shape, bool)
    for side, height, radius in ((-1, 25, 24), (1, -15, 20)):
        kidney |= ((x - 40 * side) ** 2 + (y + 15) ** 2 + ((z - height) / 1.6) ** 2) < radius**2
    return np.select([kidney, body], [200, 20], -1000).astype(np.int16), kidney, affine


@pytest.mark.parametrize("window", [[-1, -1, -1], [0.5, -1, -1]])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_label_map_lies_on_the_grid_of_the_image(name: str, window: list[float], tmp_path: Path) -> None:
    hu, kidney, affine = paint_in_space(GEOMETRIES[name])
    image = write(tmp_path / "scan.nii.gz", hu, affine)
    (tmp_path / "model.pt").write_bytes(b"oracle")
    settings = {**SETTINGS, "spacing": [4.0, 4.0, 5.0], "window_size": window}
    out = infer(tmp_path, input=image, network_def=Oracle(), settings=settings, run=["$@evaluator.run()"])
    written = nib.load(out / "scan_seg.nii.gz")
    assert written.shape == hu.shape
    np.testing.assert_allclose(written.affine, nib.load(image).affine, atol=1e-5)
    assert written.get_data_dtype() == np.uint8
    predicted = voxels(out / "scan_seg.nii.gz")
    assert set(np.unique(predicted)) == {0, 1}
    assert 2 * (predicted & kidney).sum() / (predicted.sum() + kidney.sum()) > 0.9


def test_same_scan_in_two_orientations_gets_the_same_labels(network: torch.nn.Module, tmp_path: Path) -> None:
    hu, _ = paint_kidneys(5)
    slices_first = write(tmp_path / "scans" / "a.nii.gz", hu, slices_first_affine())
    turned = nib.as_closest_canonical(nib.load(slices_first))
    ras = write(tmp_path / "scans" / "b.nii.gz", np.asarray(turned.dataobj), turned.affine)
    # resampled, to sizes that are no multiples of 16
    save_network(tmp_path / "model.pt", network, {**SETTINGS, "spacing": [6.0, 7.0, 9.0]})
    out = infer(tmp_path, input=[slices_first, ras])
    first, second = voxels(out / "a_seg.nii.gz"), voxels(out / "b_seg.nii.gz")
    assert first.shape != second.shape
    assert set(np.unique(first)) == {0, 1}
    np.testing.assert_array_equal(in_ras(first), second)


# --- what the network is given ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 9])
def test_whole_volume_of_any_size_is_padded_and_cropped_again(
    cut: int, network: torch.nn.Module, tmp_path: Path
) -> None:
    hu = paint_kidneys(4)[0][: 20 - cut, :, : 40 - cut]
    image = write(tmp_path / "scan.nii.gz", hu, slices_first_affine())
    out = infer(tmp_path, input=image)
    given = normalised(in_ras(hu))
    pads = [(-side % 16 // 2, -side % 16 - -side % 16 // 2) for side in given.shape]
    inside = tuple(slice(low, low + side) for (low, _), side in zip(pads, given.shape, strict=True))
    padded = torch.from_numpy(np.pad(given.numpy(), pads))
    with torch.no_grad():
        expected = network(padded[None, None])[0].argmax(0)[inside]
    assert agree(in_ras(voxels(out / "scan_seg.nii.gz")), expected.numpy())


@pytest.mark.parametrize("columns", [38, 39])
def test_halves_are_joined_where_they_meet(columns: int, network: torch.nn.Module, tmp_path: Path) -> None:
    """Halves of 39 voxels share the 20th, whose logits are added."""
    hu = paint_kidneys(4)[0][:, :, :columns]
    image = write(tmp_path / "scan.nii.gz", hu, slices_first_affine())
    save_network(tmp_path / "model.pt", network, {**SETTINGS, **HALF})
    out = infer(tmp_path, input=image)
    given = normalised(in_ras(hu))[None, None]
    length = -(-columns // 2)
    with torch.no_grad():
        logits = torch.zeros(2, *given.shape[2:])
        logits[:, :length] += network(given[:, :, :length])[0]
        logits[:, columns - length :] += network(given[:, :, columns - length :])[0]
        whole = network(given)[0].argmax(0).numpy()
    predicted = in_ras(voxels(out / "scan_seg.nii.gz"))
    assert agree(predicted, logits.argmax(0).numpy())
    assert not agree(predicted, whole)


def test_windows_of_inference_are_the_parts_of_training(kidneys: dict[str, str], tmp_path: Path) -> None:
    """With an odd number of voxels from left to right."""
    windows: list[torch.Tensor] = []

    class Recorder(Oracle):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            windows.append(image.clone())
            return super().forward(image)

    spacing = [8.2, 8.0, 10.0]
    (tmp_path / "model.pt").write_bytes(b"oracle")
    path = Path(kidneys["data"], "data", "case_00003", "imaging.nii.gz")
    settings = {**SETTINGS, **HALF, "spacing": spacing}
    infer(tmp_path, input=str(path), network_def=Recorder(), settings=settings, run=["$@evaluator.run()"])

    parser = ConfigParser()
    parser.read_config(str(Path(__file__).parents[2] / "bundles" / "siamese_kidney" / "train.json"))
    parser.update({"dataset_dir": kidneys["data"], "store_dir": kidneys["store"], "output_dir": "no"})
    parser.update({"spacing": spacing, "device": "cpu"})
    store = parser.get_parsed_content("train#store")
    assert isinstance(store, VolumeStore)
    (case,) = (case for case in parser.get_parsed_content("cohort").cases if case.id == "case_00003")
    volumes = store.build([case])
    assert volumes[0].shape[0] % 2 == 1
    draw = VolumePart(part="half")
    boxes = {draw(volumes, 0, np.random.default_rng(seed))["patch"] for seed in range(9)}
    parts = [volumes[0].crop(box.start, box.size)["image"] for box in sorted(boxes, key=lambda box: box.start)]
    assert len(windows) == len(parts) == 2
    for window, part in zip(windows, parts, strict=True):
        np.testing.assert_allclose(window[0].numpy(), part, atol=1e-3)


def test_window_size_may_be_set_where_memory_is_short(network: torch.nn.Module, tmp_path: Path) -> None:
    hu, _ = paint_kidneys(4)
    image = write(tmp_path / "scan.nii.gz", hu, slices_first_affine())
    out = infer(tmp_path, input=image, window_size=[16, 32, 16], overlap=0.25)
    given = normalised(in_ras(hu))[None, None]
    with torch.no_grad():
        logits = sliding_window_inference(given, [16, 32, 16], 1, network, overlap=0.25)
    assert agree(in_ras(voxels(out / "scan_seg.nii.gz")), logits[0].argmax(0).numpy())


def test_inference_feeds_the_network_what_training_fed_it(trained_siamese: Path) -> None:
    training = ConfigParser(json.loads((trained_siamese / "config.json").read_text()))
    volumes = training.get_parsed_content("validate#dataset").volumes
    for stage in ("inference", "evaluate"):
        parser = ConfigParser()
        parser.read_config(str(Path(__file__).parents[2] / "bundles" / "siamese_kidney" / f"{stage}.json"))
        parser.update({"checkpoint": str(trained_siamese / "model.pt"), "device": "cpu"})
        preprocessing = parser.get_parsed_content("preprocessing")
        for volume in volumes:
            kept = volume.crop((0, 0, 0), volume.shape)["image"]
            fed = preprocessing({"image": list(volume.case.image)})["image"].numpy()
            np.testing.assert_allclose(fed, kept, atol=np.ptp(fed) / 131070 * 1.01)


# --- cases and files ----------------------------------------------------------------------------------------------


def test_file_without_orientation_is_refused_in_one_line(network: torch.nn.Module, tmp_path: Path) -> None:
    image = nib.Nifti1Image(paint_kidneys(4)[0], slices_first_affine())
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    image.to_filename(tmp_path / "scan.nii.gz")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        infer(tmp_path, input=str(tmp_path / "scan.nii.gz"))
    error = mendable(caught.value)
    assert error is not None, caught.value
    assert "\n" not in str(error)
    assert str(tmp_path / "scan.nii.gz") in str(error)
    assert "neither sform nor qform" in str(error)


def test_cases_without_labels_are_segmented_by_default(trained_siamese: Path, kidneys: Any, tmp_path: Path) -> None:
    checkpoint = trained_siamese / "model.pt"
    out = infer(tmp_path, checkpoint=str(checkpoint), dataset_dir=kidneys["data"])
    source = Path(kidneys["data"], "data", HIDDEN, "imaging.nii.gz")
    (written,) = out.glob("*.nii.gz")
    assert voxels(written).shape == voxels(source).shape
    assert set(np.unique(voxels(written))) <= {0, 1}
    record = json.loads(written.with_name(written.name.replace(".nii.gz", ".json")).read_text())
    assert Path(record["image"]).resolve() == source.resolve()
    assert record["label_names"] == {"0": "background", "1": "kidney"}
    assert record["model_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record["network_def"]["_target_"] == "mtmed.networks.DenseUNet"

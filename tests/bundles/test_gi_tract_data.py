"""What the GI tract bundle's training is fed: slices, masks, views and parts of the cohort."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gi_tract_runs import DAYS, ORGANS, SHAPE, VARIANTS, paint_abdomen, write_abdomens
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import default_collate

from mtmed.cli import main
from mtmed.data import Case, Volume
from mtmed.engines.multi_task_trainer import batch_roles
from mtmed.networks.weights import load_weights

PATIENTS = len(DAYS)


@pytest.fixture
def resolved(gi_tract_config, gi_tract_options, tmp_path):
    """Parser of the config with overlays and overrides; nothing runs."""

    def parse(*overlays, **more):
        parser = ConfigParser()
        parser.read_config(gi_tract_config("train", *overlays))
        parser.update(gi_tract_options("train", **{"output_dir": str(tmp_path / "parsed"), **more}))
        return parser.get_parsed_content

    return parse


def painted(case: Case) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Grey values D H W and masks K D H W as they were written."""
    grey, masks = paint_abdomen(case.metadata["case_number"], case.metadata["day_number"])
    return grey.astype(np.float64), masks


def resampled(image: NDArray[np.float64], size: tuple[int, int], order: int) -> NDArray[np.float64]:
    """Slices on a grid of another size whose pixels share the corners of the image."""
    grids = [(np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(size, image.shape[1:], strict=True)]
    rows, columns = np.meshgrid(*grids, indexing="ij")
    return np.stack([ndimage.map_coordinates(one, [rows, columns], order=order, mode="nearest") for one in image])


def stored(volume: Volume) -> dict[str, NDArray[Any]]:
    return {name: values[0] for name, values in volume.crop((0, 0, 0), volume.shape).items()}


# --- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["slice", "scan"])
def test_slices_are_brought_to_0_to_1_and_resized(per: str, resolved: Any) -> None:
    for volume in resolved(normalise_per=per)("train#dataset").volumes:
        grey = painted(volume.case)[0]
        axes = (1, 2) if per == "slice" else (0, 1, 2)
        low, high = grey.min(axes, keepdims=True), grey.max(axes, keepdims=True)
        expected = resampled((grey - low) / (high - low), (16, 16), order=1)
        np.testing.assert_allclose(stored(volume)["image"], expected, atol=1e-4)


def test_images_of_their_own_size_keep_their_pixels(resolved: Any) -> None:
    volume = resolved(image_size=[20, 24], normalise_per="scan")("train#dataset").volumes[0]
    grey, masks = painted(volume.case)
    arrays = stored(volume)
    assert volume.shape == SHAPE
    np.testing.assert_allclose(arrays["image"], (grey - grey.min()) / np.ptp(grey), atol=2e-5)
    np.testing.assert_array_equal(arrays["label"], sum(mask << bit for bit, mask in enumerate(masks.astype(int))))


@pytest.mark.parametrize("offsets", [[0, 0, 0], [-1, 0, 1], [-2, 0, 2]])
def test_neighbouring_slices_are_channels(offsets: list[int], resolved: Any) -> None:
    get = resolved(slice_offsets=offsets)
    dataset = get("train#dataset")
    seen = set()
    for step in range(10):
        for position in range(4):
            sample = dataset[step, position]
            whole = stored(dataset.volumes[sample["volume"]])
            places = np.clip(sample["slice"] + np.array(offsets), 0, SHAPE[0] - 1)
            np.testing.assert_array_equal(sample["image"], whole["image"][places])
            np.testing.assert_array_equal(sample["label"][0], whole["label"][sample["slice"]])
            seen.add(sample["slice"])
    # the ends too, where an edge slice stands for those that are missing
    assert {0, SHAPE[0] - 1} <= seen
    assert get("segmenter").in_channels == 3
    assert get("validate#inferer").slice_offsets == tuple(offsets)


def test_network_of_neighbouring_slices_trains(train_gi_tract: Any) -> None:
    folder = train_gi_tract(slice_offsets=[-2, 0, 2], film=True, epochs=1)
    content = load_weights(folder / "model.pt")
    assert content["settings"]["slice_offsets"] == [-2, 0, 2]
    assert content["network_def"]["in_channels"] == 3


# --- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["nearest", "linear"])
def test_masks_are_resized_one_by_one(how: str, resolved: Any) -> None:
    overlaps = 0
    for volume in resolved(mask_resizing=how)("train#dataset").volumes:
        masks = painted(volume.case)[1].astype(np.float64)
        label = stored(volume)["label"]
        for bit, mask in enumerate(masks):
            value = resampled(mask, (16, 16), order=1) if how == "linear" else resampled(mask, (16, 16), order=0)
            found = label >> bit & 1
            # where the middle lies between two pixels, either is the nearest; a half is neither in nor out
            clear = abs(value - 0.5) > 1e-6
            np.testing.assert_array_equal(found[clear], value[clear] > 0.5)
        overlaps += int((label == 3).sum())
    assert overlaps


def test_both_ways_of_resizing_masks_train(train_gi_tract: Any, tmp_path: Path) -> None:
    losses = []
    for how in ("nearest", "linear"):
        folder = train_gi_tract(mask_resizing=how, epochs=1, output_dir=str(tmp_path / how))
        losses.append((folder / "losses.csv").read_text())
    assert losses[0] != losses[1]


# --- views --------------------------------------------------------------------------------------------------------


def views_of(get: Any) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    dataset = get("train#dataset")
    batch = default_collate([dataset[0, position] for position in range(4)])
    views = get("train#views")(batch_roles(batch, torch.device("cpu")), seed=0, step=0, positions=range(4))
    return batch, views


def test_contrast_is_augmented_and_the_segmentation_is_not(resolved: Any) -> None:
    get = resolved(auxiliary="contrast", augmentation="contrast")
    batch, views = views_of(get)
    assert set(views) == {"patch", "contrast"}
    assert torch.equal(views["patch"]["image"], batch["image"])
    assert torch.equal(views["patch"]["label"], batch["label"])
    assert not torch.equal(views["contrast"]["image"], batch["image"])
    tasks = get("train#multi_task_model").tasks
    assert (tasks["segmentation"].views, tasks["contrast"].views) == (("patch",), ("contrast",))


def test_all_augmentation_changes_image_and_label_together(resolved: Any) -> None:
    get = resolved(auxiliary="contrast", augmentation="all")
    batch, views = views_of(get)
    assert set(views) == {"patch"}
    assert not torch.equal(views["patch"]["image"], batch["image"])
    assert not torch.equal(views["patch"]["label"], batch["label"])
    assert set(views["patch"]["label"].unique().tolist()) <= set(range(8))
    _, plain = views_of(resolved(auxiliary="contrast"))
    assert torch.equal(plain["patch"]["image"], batch["image"])


@pytest.mark.parametrize("auxiliary", ["contrast", "momentum_contrast"])
@pytest.mark.parametrize("augmentation", ["contrast", "all"])
def test_contrasts_train_with_augmentation(auxiliary: str, augmentation: str, train_gi_tract: Any) -> None:
    folder = train_gi_tract(auxiliary=auxiliary, augmentation=augmentation, epochs=1)
    assert (folder / "model.pt").exists()


@pytest.mark.parametrize("group", ["scan", "patient"])
def test_batches_of_a_contrast_are_neighbours_of_one_scan_or_patient(group: str, resolved: Any) -> None:
    dataset = resolved(**VARIANTS["contrast"], batch_size=6, contrast_group=group)("train#dataset")
    scans = set()
    for step in range(8):
        samples = [dataset[step, position] for position in range(6)]
        cases = [dataset.volumes[sample["volume"]].case for sample in samples]
        assert len({case.group for case in cases}) == 1
        scans.add(len({case.id for case in cases}))
        for first, second in zip(samples[0::2], samples[1::2], strict=True):
            assert first["volume"] == second["volume"]
            assert second["slice"] - first["slice"] == 1
    assert scans == ({1} if group == "scan" else {1, 2})


# --- parts --------------------------------------------------------------------------------------------------------


def test_parts_share_no_patient_and_rotate(resolved: Any) -> None:
    validated = []
    for fold in range(PATIENTS):
        parts = resolved(fold=fold)("parts")
        groups = [{case.group for case in part} for part in (parts.training, parts.validation, parts.test)]
        assert [len(group) for group in groups] == [3, 1, 1]
        assert len(set.union(*groups)) == PATIENTS
        validated += groups[1]
    assert len(set(validated)) == PATIENTS


def test_parts_by_day_share_patients_but_no_days(resolved: Any) -> None:
    shared = set()
    for fold in range(7):
        parts = resolved(split_key="patient_day", shares=[70, 15, 15], fold=fold)("parts")
        three = (parts.training, parts.validation, parts.test)
        days = [{(case.group, case.visit) for case in part} for part in three]
        assert [len(one) for one in days] == [5, 1, 1]
        assert len(set.union(*days)) == 7
        groups = [{case.group for case in part} for part in three]
        shared |= groups[0] & (groups[1] | groups[2])
    assert shared == {"case102", "case104"}


def test_fraction_keeps_fewer_training_patients(resolved: Any) -> None:
    whole, few = resolved()("parts"), resolved(fraction=34)("parts")
    assert {case.group for case in few.training} < {case.group for case in whole.training}
    assert len({case.group for case in few.training}) == 1
    assert (few.validation, few.test) == (whole.validation, whole.test)


def test_parts_that_the_manifest_records_are_used(resolved: Any, tmp_path: Path, caplog: Any) -> None:
    names = [f"case{case}_day{day}" for case, days in DAYS.items() for day in days]
    part_of = {"case101": "test", "case103": "validation"}
    parts = {name: part_of.get(name.split("_")[0], "training") for name in names}
    cohort = write_abdomens(tmp_path / "parts", parts=parts)
    with caplog.at_level(logging.INFO):
        found = resolved(dataset_dir=cohort, shares=[20, 60, 20])("parts")
    assert {case.group for case in found.test} == {"case101"}
    assert {case.group for case in found.validation} == {"case103"}
    assert {case.group for case in found.training} == {"case102", "case104", "case105"}
    assert "the parts that the manifest records are kept" in caplog.text


def test_parts_that_the_command_line_writes_are_those_of_the_bundle(resolved: Any, tmp_path: Path) -> None:
    cohort = Path(write_abdomens(tmp_path / "uw", hidden=()))
    (cohort / "dataset.json").unlink()
    assert main(["manifest", "uw_madison", str(cohort), "--shares", "60", "20", "20"]) == 0
    content = json.loads((cohort / "dataset.json").read_text())
    assert content["split"]["key"] == "patient"
    assert {row["part"] for row in content["training"]} == {"training", "validation", "test"}
    written = resolved(dataset_dir=str(cohort))
    assert written("organs") == list(ORGANS)
    for part in ("training", "validation", "test"):
        recorded = {row["patient"] for row in content["training"] if row["part"] == part}
        assert {case.group for case in getattr(written("parts"), part)} == recorded


def test_without_validation_the_last_network_is_kept(train_gi_tract: Any) -> None:
    folder = train_gi_tract(shares=[100, 0, 0], epochs=1)
    assert not (folder / "model.pt").exists()
    assert f"Model: {folder}/last.pt" in (folder / "log.txt").read_text()
    assert len(load_weights(folder / "last.pt")["settings"]["trained_on"]) == PATIENTS

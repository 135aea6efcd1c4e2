"""The inference and evaluation configs as they stand, with an oracle for a network: what goes in comes out in place."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from mtmed.errors import InputError
from mtmed.inferers import inference_cases, require_checkpoint
from mtmed.networks import build_network, save_network

BUNDLE = Path(__file__).parents[2] / "bundles" / "mixcl"
THRESHOLD = 50.5  # HU; voxels are whole numbers, so that none lies on it
SETTINGS = {
    "label_names": {"0": "background", "1": "organ"},
    "modalities": ["CT"],
    "spacing": [0.7, 0.8, 0.9],
    "window": [THRESHOLD - 100, THRESHOLD + 100],
    "patch_size": [32, 32, 32],
}


class Oracle(torch.nn.Module):
    """Foreground where the windowed image is above its middle."""

    definition = {"_target_": "oracle"}  # noqa: RUF012

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], 1)


def _affine(spacing, angle=0.0, codes=(1, 1, 1)):
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilt = np.eye(3)
    tilt[1:, 1:] = [[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(codes) * np.asarray(spacing)
    affine[:3, 3] = (-40.5, 31.25, 12.125)
    return affine


GEOMETRIES = {
    "RAS": _affine((1.2, 1.4, 2.0)),
    "LAS": _affine((1.2, 1.4, 2.0), codes=(-1, 1, 1)),
    "RPI": _affine((1.2, 1.4, 2.0), codes=(1, -1, -1)),
    "oblique": _affine((1.2, 1.4, 2.0), angle=0.35),
    "anisotropic": _affine((0.8, 0.9, 3.6)),
}


def _write_scan(path, affine, shape=(48, 44, 26), seed=0):
    """A smooth lobed body of fixed size in millimetres; returns its mask."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    centre = (np.asarray(shape) - 1) * spacing / 2 + np.random.default_rng(seed).uniform(-2, 2, 3)
    place = [axis * step for axis, step in zip(np.indices(shape), spacing, strict=True)]
    offset = [axis - middle for axis, middle in zip(place, centre, strict=True)]
    distance = np.sqrt(offset[0] ** 2 + (1.2 * offset[1]) ** 2 + (0.9 * offset[2]) ** 2) + 2 * np.sin(offset[0] / 6)
    image = np.rint(THRESHOLD + 10 * (16 - distance)).clip(-400, 400).astype(np.int16)
    scan = nib.Nifti1Image(image, affine)
    scan.set_sform(affine, 2)
    scan.set_qform(affine, 1)
    scan.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    scan.to_filename(path)
    return image > THRESHOLD


def _run(config, tmp_path, **override):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"oracle")
    override = {
        "checkpoint": str(weights),
        "network_def": Oracle(),
        "settings": SETTINGS,
        "dataset_dir": str(tmp_path),
        "output_dir": str(tmp_path / "out"),
        "device": "cpu",
        "run": ["$@evaluator.run()"],
    } | override
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / config), meta_file=None, logging_file=False, workflow_type=None, **override
    )
    workflow.initialize()
    workflow.run()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_label_map_lies_on_the_inputs_own_grid(name, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    mask = _write_scan(scan, GEOMETRIES[name])
    _run("inference.json", tmp_path, input=str(scan))
    source, written = nib.load(scan), nib.load(tmp_path / "out" / "scan_seg.nii.gz")
    label = np.asanyarray(written.dataobj)
    assert written.shape == source.shape
    assert np.array_equal(written.affine, source.affine)
    assert written.get_data_dtype() == np.uint8
    for field in ("sform_code", "qform_code", "xyzt_units"):
        assert written.header[field] == source.header[field]
    assert 2 * (label & mask).sum() / (label.sum() + mask.sum()) > 0.98
    record = json.loads((tmp_path / "out" / "scan_seg.json").read_text())
    assert record["label_names"] == SETTINGS["label_names"]
    assert record["network_def"] == {"_target_": "oracle"}
    assert len(record["model_sha256"]) == 64


@pytest.mark.parametrize("name", GEOMETRIES)
def test_label_map_is_exact_where_nothing_is_resampled(name, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    mask = _write_scan(scan, GEOMETRIES[name])
    spacing = np.linalg.norm(GEOMETRIES[name][:3, :3], axis=0).tolist()
    _run("inference.json", tmp_path, input=str(scan), settings=SETTINGS | {"spacing": spacing})
    assert np.array_equal(np.asanyarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj) == 1, mask)


def test_folder_with_equal_names_smaller_volumes_and_a_trained_network(tmp_path):
    for index, name in enumerate(("a/ct.nii.gz", "b/ct.nii.gz", "c/other.nii")):
        _write_scan(tmp_path / "scans" / name, GEOMETRIES["LAS"], shape=(20, 9, 7 + index))
    definition = {
        "_target_": "mtmed.networks.UNETR",
        "in_channels": 1,
        "out_channels": 2,
        "img_size": [32, 32, 32],
        "feature_size": 4,
        "hidden_size": 12,
        "mlp_dim": 12,
        "num_heads": 2,
    }
    save_network(tmp_path / "unetr.pt", build_network(definition), SETTINGS)
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "inference.json"),
        meta_file=None,
        logging_file=False,
        workflow_type=None,
        checkpoint=str(tmp_path / "unetr.pt"),
        input=str(tmp_path / "scans"),
        output_dir=str(tmp_path / "out"),
        device="cpu",
        run=["$@evaluator.run()"],
    )
    workflow.initialize()
    workflow.run()
    names = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert names == ["a_ct_seg.nii.gz", "b_ct_seg.nii.gz", "other_seg.nii.gz"]
    assert nib.load(tmp_path / "out" / "other_seg.nii.gz").shape == (20, 9, 9)
    record = json.loads((tmp_path / "out" / "other_seg.json").read_text())
    assert record["network_def"] == definition


def test_evaluation_scores_the_fold_and_draws_it(tmp_path):
    rows = []
    for index, name in enumerate(("RAS", "LAS", "oblique", "RPI")):
        image, label = f"images/{index}.nii.gz", f"labels/{index}.nii.gz"
        mask = _write_scan(tmp_path / image, GEOMETRIES[name], seed=index)
        (tmp_path / "labels").mkdir(exist_ok=True)
        # the data set calls the organ 3, the network 1
        nib.Nifti1Image(mask.astype(np.uint8) * 3, GEOMETRIES[name]).to_filename(tmp_path / label)
        rows.append({"image": image, "label": label, "id": f"case{index}", "patient": f"p{index}"})
    content = {"name": "Toy", "modality": {"0": "CT"}, "labels": {"0": "background", "3": "organ"}, "training": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    _run("evaluate.json", tmp_path, folds=2)
    out = tmp_path / "out"
    with (out / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2
    assert all(float(row["dice"]) > 0.98 for row in table)
    assert all(float(row["hd95"]) < 2.5 for row in table)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["organs"]["organ"]["dice"]["n_patients"] == 2
    assert summary["protocol"]["fold"] == 0
    assert len(list((out / "overlays").glob("*.png"))) == 2
    assert len(list((out / "predictions").glob("*_seg.nii.gz"))) == 2


def test_missing_checkpoint_says_where_training_writes_it():
    with pytest.raises(InputError, match=r"--checkpoint runs/<run>/model\.pt"):
        require_checkpoint(None)
    assert require_checkpoint("a.pt") == "a.pt"


def test_inputs_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="no such file"):
        inference_cases(tmp_path / "absent", modalities=["CT"])
    with pytest.raises(InputError, match="has no image"):
        inference_cases(tmp_path, modalities=["CT"])
    with pytest.raises(InputError, match="is not one of"):
        inference_cases(tmp_path / "notes.txt", modalities=["CT"])
    (tmp_path / "ct.nii.gz").write_bytes(b"")
    (tmp_path / "ct.nii").write_bytes(b"")
    (tmp_path / "._ct.nii").write_bytes(b"")
    with pytest.raises(InputError, match="same output name"):
        inference_cases(tmp_path, modalities=["CT"])
    with pytest.raises(InputError, match="the network takes CT, PET"):
        inference_cases(tmp_path / "ct.nii.gz", modalities=["CT", "PET"])
    rows = inference_cases([tmp_path / "ct.nii.gz"], modalities=["CT"])
    assert rows == [{"image": [str(tmp_path / "ct.nii.gz")], "output_name": "ct"}]

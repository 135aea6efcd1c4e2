"""Exported bundles do what the Model Zoo's own checks and a user of the zoo do with a bundle."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from exported_kinds import BUNDLES, HEAVY, KINDS, MODALITIES, SLOW, Kind, unet
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.bundle.scripts import load

from mtmed.networks import build_network, load_network, load_weights, save_network
from mtmed.zoo import check_bundle, export_bundle


def kinds(*slow: str) -> list[Any]:
    """Names of all kinds, with the mark of those that take long."""
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in KINDS]


@pytest.fixture(scope="module", params=kinds(*HEAVY))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def checkpoint(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.pt"
    save_network(path, build_network(kind.definition), kind.settings)
    if kind.rough:
        of_rough = {**kind.settings, "variant": "single", "input_channels": MODALITIES, "heads": [2]}
        save_network(path.with_name("rough.pt"), build_network(unet(len(MODALITIES), 2)), of_rough)
    return path


@pytest.fixture(scope="module")
def bundle(kind: Kind, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    return export_bundle(BUNDLES / kind.bundle, checkpoint=checkpoint, output=output, name=kind.name)


@pytest.fixture(scope="module")
def scans(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(kind.scans(tmp_path_factory.mktemp("scans")))


def run_in_bundle(bundle: Path, *command: str) -> str:
    """Run Python in the bundle's folder, with one thread, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(bundle), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=bundle,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_contract_finds_nothing(bundle: Path) -> None:
    assert check_bundle(bundle) == []


@pytest.mark.parametrize("kind", kinds(*SLOW, *HEAVY), indirect=True)
@pytest.mark.parametrize("workflow_type", ["train", "infer"])
def test_workflow_has_the_properties_that_apps_ask_for(
    bundle: Path, kind: Kind, scans: Path, workflow_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = {"train": "train.json", "infer": "inference.json"}[workflow_type]
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / name),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type=workflow_type,
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        **(kind.short_training() if workflow_type == "train" else {}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_network_takes_and_gives_what_the_metadata_says(bundle: Path, kind: Kind) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    data_format = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    # one tensor in, one out
    assert list(data_format["inputs"]) == ["image"]
    assert list(data_format["outputs"]) == ["pred"]
    image, prediction = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    assert image["spatial_shape"] == prediction["spatial_shape"] == kind.spatial_shape()
    assert list(image["channel_def"].values()) == kind.image
    assert image["num_channels"] == len(kind.image)
    assert list(prediction["channel_def"].values()) == kind.pred
    assert prediction["num_channels"] == len(kind.pred)


def test_network_scripts_and_the_script_gives_the_same_logits(
    bundle: Path, kind: Kind, checkpoint: Path, tmp_path: Path
) -> None:
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    shape = (2, len(kind.image), *kind.size)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_network(checkpoint)[0](image)
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), expected)


def test_monai_loads_network_and_weights_by_name(bundle: Path, checkpoint: Path) -> None:
    network = load(
        bundle.name, bundle_dir=str(bundle.parent), workflow_type="inference", source="monaihosting", device="cpu"
    )
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in load_network(checkpoint)[0].state_dict().items())


def test_training_config_has_the_settings_of_the_weights(bundle: Path, kind: Kind) -> None:
    """Else the exported training would make another network than the exported one."""
    train = json.loads((bundle / "configs" / "train.json").read_text())
    # the window follows from the part that is trained on, organs from the data; the exported training starts from no
    # encoder
    derived = {"label_names", "organs", "input_channels", "output_channels", "heads", "window_size", "pretraining"}
    stated = {key for key, value in kind.settings.items() if value is not None}
    shared = train.keys() & stated - derived
    assert {key: train[key] for key in shared} == {key: kind.settings[key] for key in shared}
    assert kind.fixed <= shared


def test_rough_network_lies_beside_if_there_is_one(bundle: Path, kind: Kind, checkpoint: Path) -> None:
    beside = bundle / "models" / "rough.safetensors"
    assert beside.is_file() == kind.rough
    if kind.rough:
        expected, found = load_weights(checkpoint.with_name("rough.pt")), load_weights(beside)
        assert {**found, "model": None} == {**expected, "model": None}
        assert found["model"].keys() == expected["model"].keys()
        assert all(torch.equal(found["model"][name], value) for name, value in expected["model"].items())


@pytest.mark.parametrize("kind", kinds(*SLOW, *HEAVY), indirect=True)
def test_bundle_trains_evaluates_and_segments_with_its_own_code(
    bundle: Path, kind: Kind, scans: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, mtmed\n"
        "from monai.bundle import run\n"
        f"assert mtmed.__file__.startswith({str(bundle)!r}), mtmed.__file__\n"
        f"common = {{'dataset_dir': {str(scans)!r}, 'device': \"$torch.device('cpu')\"}}\n"
        f"out = {str(tmp_path)!r}\n"
        f"kept, split = {kind.kept(tmp_path)}, {kind.split}\n"
        f"short = {kind.short_training()}\n"
        "run(config_file='configs/train.json', output_dir=out + '/train', **common, **kept, **short)\n"
        "trained = out + '/train/model.pt'\n"
        "run(config_file='configs/evaluate.json', output_dir=out + '/eval', checkpoint=trained, **split, **common)\n"
        "run(config_file='configs/inference.json', output_dir=out + '/inference', **common)\n"
    )
    run_in_bundle(bundle, "-c", script)
    weights = torch.load(tmp_path / "train" / "model.pt", weights_only=True)
    assert weights["network_def"] == kind.definition
    # and whom it was trained on
    assert weights["settings"] == kind.settings | {"trained_on": weights["settings"]["trained_on"]}
    assert weights["settings"]["trained_on"]
    assert (tmp_path / "train" / "rough.pt").is_file() == kind.rough
    assert any((tmp_path / "eval").glob("*.csv"))
    label_maps = list((tmp_path / "inference").rglob("*_seg.nii.gz"))
    assert label_maps
    for label_map in label_maps:
        record = json.loads(label_map.with_name(label_map.name.replace(".nii.gz", ".json")).read_text())
        segmented, (shape, affine) = nib.load(label_map), grid(Path(record["image"]))
        assert segmented.shape == shape
        np.testing.assert_allclose(segmented.affine, affine, atol=1e-4)
        values = set(np.unique(np.asarray(segmented.dataobj)).tolist())
        assert values <= set(range(len(kind.settings["label_names"])))
    tissues = list((tmp_path / "inference").rglob("*_tissue.nii.gz"))
    assert len(tissues) == (len(label_maps) if kind.settings.get("variant") == "multi_output" else 0)


@pytest.mark.slow
def test_bundle_trains_in_two_processes(bundle: Path, kind: Kind, scans: Path, tmp_path: Path) -> None:
    places = {"dataset_dir": scans, "output_dir": tmp_path / "run", **kind.kept(tmp_path)}
    arguments = [word for key, value in (kind.short_training() | places).items() for word in (f"--{key}", str(value))]
    run_in_bundle(
        bundle,
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"),
        *("--config_file", "['configs/train.json','configs/multi_gpu_train.json']", *arguments),
    )
    assert (tmp_path / "run" / "model.pt").is_file()


def grid(source: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a NIfTI file, of an X-ray, or of a folder of slices as their names say."""
    if source.suffix == ".dcm":
        image = SimpleITK.ReadImage(source)
        return image.GetSize(), np.diag([-image.GetSpacing()[0], -image.GetSpacing()[1], 1.0, 1.0])
    if source.is_file():
        image = nib.load(source)
        return image.shape, image.affine
    names = sorted(file.stem.split("_") for file in source.glob("*.png"))
    _, _, width, height, *pixel = names[0]
    affine = np.diag([-float(pixel[0]), -float(pixel[1]), 3.0, 1.0])
    return (int(width), int(height), len(names)), affine

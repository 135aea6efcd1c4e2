"""The exported MixCL bundle does what the Model Zoo's own checks and a user of the zoo do with a bundle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.bundle.scripts import load

from mtmed.data.demo import demo_abdomen_organs
from mtmed.networks import build_network, load_network, save_network
from mtmed.zoo import check_bundle, export_bundle

BUNDLE = Path(__file__).parents[2] / "bundles" / "mixcl"
DEFINITION = {
    "_target_": "mtmed.networks.UNETR",
    "in_channels": 1,
    "out_channels": 5,
    "img_size": [32, 32, 32],
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 32,
    "num_heads": 2,
}
SETTINGS = {
    "label_names": {"0": "background", "1": "liver", "2": "spleen", "3": "left kidney", "4": "right kidney"},
    "modalities": ["CT"],
    "spacing": [8.0, 8.0, 10.0],
    "window": [-150.0, 250.0],
    "patch_size": [32, 32, 32],
}
SHORT_TRAINING = {"epochs": 1, "iterations_per_epoch": 2, "batch_size": 1, "val_interval": 1, "folds": 3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.pt"
    save_network(path, build_network(DEFINITION), SETTINGS)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    return export_bundle(BUNDLE, checkpoint=checkpoint, output=output, name="abdomen_ct_unetr_segmentation")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_abdomen_organs(tmp_path_factory.mktemp("scans"), cases_per_dataset=3))


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


@pytest.mark.parametrize("kind", ["train", "infer"])
def test_workflow_has_the_properties_that_apps_ask_for(bundle: Path, scans: Path, kind: str) -> None:
    name = {"train": "train.json", "infer": "inference.json"}[kind]
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / name),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type=kind,
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        **({"folds": 3} if kind == "train" else {}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_network_takes_and_gives_what_the_metadata_says(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    data_format = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    assert data_format["inputs"]["image"]["spatial_shape"] == [32, 32, 32]


def test_network_scripts_and_the_script_gives_the_same_logits(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_network(checkpoint)[0](image)
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), expected)


def test_monai_loads_network_and_weights_by_name(bundle: Path, checkpoint: Path) -> None:
    network = load(
        bundle.name, bundle_dir=str(bundle.parent), workflow_type="inference", source="monaihosting", device="cpu"
    )
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in load_network(checkpoint)[0].state_dict().items())


def test_bundle_trains_evaluates_and_segments_with_its_own_code(bundle: Path, scans: Path, tmp_path: Path) -> None:
    script = (
        "import sys, mtmed\n"
        "from monai.bundle import run\n"
        f"assert mtmed.__file__.startswith({str(bundle)!r}), mtmed.__file__\n"
        f"common = {{'dataset_dir': {str(scans)!r}, 'device': \"$torch.device('cpu')\"}}\n"
        f"out = {str(tmp_path)!r}\n"
        "store = {'store_dir': out + '/store'}\n"
        f"run(config_file='configs/train.json', output_dir=out + '/train', **common, **store, **{SHORT_TRAINING})\n"
        "trained = out + '/train/model.pt'\n"
        "run(config_file='configs/evaluate.json', output_dir=out + '/eval', checkpoint=trained, folds=3, **common)\n"
        "run(config_file='configs/inference.json', output_dir=out + '/inference', **common)\n"
    )
    run_in_bundle(bundle, "-c", script)
    weights = torch.load(tmp_path / "train" / "model.pt", weights_only=True)
    assert weights["network_def"] == DEFINITION
    assert weights["settings"] == SETTINGS
    assert any((tmp_path / "eval").glob("*.csv"))
    (label_map,) = (tmp_path / "inference").rglob("*.nii.gz")
    (image,) = (scans / "imagesTs").iterdir()
    segmented, source = nib.load(label_map), nib.load(image)
    assert segmented.shape == source.shape
    np.testing.assert_allclose(segmented.affine, source.affine, atol=1e-4)
    assert set(np.unique(np.asarray(segmented.dataobj)).tolist()) <= set(range(5))


def test_bundle_trains_in_two_processes(bundle: Path, scans: Path, tmp_path: Path) -> None:
    options = {**SHORT_TRAINING, "dataset_dir": scans, "output_dir": tmp_path / "run", "store_dir": tmp_path / "store"}
    arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    run_in_bundle(
        bundle,
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"),
        *("--config_file", "['configs/train.json','configs/multi_gpu_train.json']", *arguments),
    )
    assert (tmp_path / "run" / "model.pt").is_file()

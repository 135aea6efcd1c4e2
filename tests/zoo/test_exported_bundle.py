"""Exported bundles do what the Model Zoo's own checks and a user of the zoo do with a bundle."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.bundle.scripts import load

from mtmed.data.demo import demo_abdomen_organs, demo_kidney_ct
from mtmed.networks import build_network, load_network, save_network
from mtmed.zoo import check_bundle, export_bundle

sys.path.insert(0, str(Path(__file__).parents[1] / "bundles"))
from ms_lesion_runs import SPACING, write_brains

BUNDLES = Path(__file__).parents[2] / "bundles"
MODALITIES = ["FLAIR", "T1", "T2"]
TISSUES = ["csf", "grey_matter", "white_matter"]


@dataclass(frozen=True)
class Kind:
    """A bundle with the network that is exported, and what its trainings need to be short.

    Attributes:
        bundle: folder of the source.
        name: of the export.
        definition: of the network.
        settings: of the network.
        scans: writes a cohort into a folder.
        training: options of a short training.
        rough: whether a rough lesion network lies beside.
        whole_volumes: the network is given volumes, or shares of them, in place of patches of a fixed size.
    """

    bundle: str
    name: str
    definition: dict[str, Any]
    settings: dict[str, Any]
    scans: Callable[[Path], str]
    training: dict[str, Any] = field(default_factory=dict)
    rough: bool = False
    whole_volumes: bool = False

    def image_size(self) -> list[int]:
        """A size that the network takes, voxels."""
        return [32, 16, 48] if self.whole_volumes else list(self.settings["patch_size"])


def unet(inputs: int, outputs: int) -> dict[str, Any]:
    shape = {"in_channels": inputs, "out_channels": outputs, "features": [3, 4, 4, 4, 4, 3]}
    return {"_target_": "mtmed.networks.UNet", **shape, "norm": "instance", "upsample": "deconv"}


def ms_lesion(variant: str) -> Kind:
    inputs = MODALITIES + (TISSUES if variant == "multi_input" else [])
    outputs = ["background", "lesion"] + (["outside", *TISSUES] if variant == "multi_output" else [])
    settings = {
        "variant": variant,
        "label_names": {"0": "background", "1": "lesion"},
        "modalities": MODALITIES,
        "input_channels": inputs,
        "output_channels": outputs,
        "heads": [2, 4] if variant == "multi_output" else [2],
        "spacing": [SPACING] * 3,
        "patch_size": [16, 32, 16],
        "brain_mask": False,
        "tissue": "hmrf",
        "tissue_modality": "T1",
        "tissue_table": "mtmed",
        "merged_lesions": "in_sample",
    }
    return Kind(
        bundle="ms_lesion",
        name=f"brain_ms_unet_{variant}_segmentation",
        definition=unet(len(inputs), len(outputs)),
        settings=settings,
        scans=lambda folder: write_brains(folder, patients=3, visits=1),
        training={"rough_epochs": 1},
        rough=variant != "single",
    )


def siamese_kidney(name: str, **options: Any) -> Kind:
    """With a network whose definition says no more than what differs from the default."""
    shape = {"in_channels": 1, "out_channels": 2, "block_layers": [1, 1, 1, 2], "growth": [4, 4, 4, 4]}
    return Kind(
        bundle="siamese_kidney",
        name=name,
        definition={"_target_": "mtmed.networks.DenseUNet", **shape, **options},
        settings={
            "label_names": {"0": "background", "1": "kidney"},
            "modalities": ["CT"],
            "spacing": [10.0, 10.0, 12.0],
            "window": [-80.0, 300.0],
            "part": "half",
            "window_size": [0.5, -1, -1],
            "overlap": 0.0,
            "label_groups": {"kidney": ["kidney", "tumour"]},
            "pretraining": None,
        },
        scans=lambda folder: demo_kidney_ct(folder, cases=3),
        whole_volumes=True,
    )


KINDS = {
    "mixcl": Kind(
        bundle="mixcl",
        name="abdomen_ct_unetr_segmentation",
        definition={
            "_target_": "mtmed.networks.UNETR",
            "in_channels": 1,
            "out_channels": 5,
            "img_size": [32, 32, 32],
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 32,
            "num_heads": 2,
        },
        settings={
            "label_names": {"0": "background", "1": "liver", "2": "spleen", "3": "left kidney", "4": "right kidney"},
            "modalities": ["CT"],
            "spacing": [8.0, 8.0, 10.0],
            "window": [-150.0, 250.0],
            "patch_size": [32, 32, 32],
        },
        scans=lambda folder: demo_abdomen_organs(folder, cases_per_dataset=3),
    ),
    **{f"ms_lesion {variant}": ms_lesion(variant) for variant in ("single", "multi_input", "multi_output")},
    "siamese_kidney": siamese_kidney("kidney_ct_dense_unet_segmentation"),
    "siamese_kidney paper_order": siamese_kidney(
        "kidney_ct_dense_unet_paper_segmentation", paper_order=True, recompute=True
    ),
}
SLOW = ("ms_lesion single", "ms_lesion multi_output", "siamese_kidney paper_order")
SHORT_TRAINING = {"epochs": 1, "iterations_per_epoch": 2, "batch_size": 1, "val_interval": 1, "folds": 3}


@pytest.fixture(scope="module", params=KINDS)
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


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in KINDS],
    indirect=True,
)
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
        **(SHORT_TRAINING | kind.training if workflow_type == "train" else {}),
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
    size = ["16*n"] * 3 if kind.whole_volumes else kind.settings["patch_size"]
    assert image["spatial_shape"] == prediction["spatial_shape"] == size
    named = kind.settings.get("input_channels", kind.settings["modalities"])
    assert list(image["channel_def"].values()) == named
    assert image["num_channels"] == len(named) == kind.definition["in_channels"]
    named = kind.settings.get("output_channels", list(kind.settings["label_names"].values()))
    assert list(prediction["channel_def"].values()) == named
    assert prediction["num_channels"] == len(named) == kind.definition["out_channels"]


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
    shape = (1, kind.definition["in_channels"], *kind.image_size())
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
    # the window follows from the part that is trained on; the exported training starts from no encoder
    derived = {"label_names", "input_channels", "output_channels", "heads", "window_size", "pretraining"}
    shared = train.keys() & kind.settings.keys() - derived
    assert {key: train[key] for key in shared} == {key: kind.settings[key] for key in shared}
    assert {"spacing", "part" if kind.whole_volumes else "patch_size"} <= shared


def test_rough_network_lies_beside_if_there_is_one(bundle: Path, kind: Kind, checkpoint: Path) -> None:
    beside = bundle / "models" / "rough.pt"
    assert beside.is_file() == kind.rough
    if kind.rough:
        assert beside.read_bytes() == checkpoint.with_name("rough.pt").read_bytes()


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in KINDS],
    indirect=True,
)
def test_bundle_trains_evaluates_and_segments_with_its_own_code(
    bundle: Path, kind: Kind, scans: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, mtmed\n"
        "from monai.bundle import run\n"
        f"assert mtmed.__file__.startswith({str(bundle)!r}), mtmed.__file__\n"
        f"common = {{'dataset_dir': {str(scans)!r}, 'device': \"$torch.device('cpu')\"}}\n"
        f"out = {str(tmp_path)!r}\n"
        f"kept = {kept(kind, tmp_path)}\n"
        f"short = {SHORT_TRAINING | kind.training}\n"
        "run(config_file='configs/train.json', output_dir=out + '/train', **common, **kept, **short)\n"
        "trained = out + '/train/model.pt'\n"
        "run(config_file='configs/evaluate.json', output_dir=out + '/eval', checkpoint=trained, folds=3, **common)\n"
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
        segmented, source = nib.load(label_map), nib.load(record["image"])
        assert segmented.shape == source.shape
        np.testing.assert_allclose(segmented.affine, source.affine, atol=1e-4)
        values = set(np.unique(np.asarray(segmented.dataobj)).tolist())
        assert values <= set(range(len(kind.settings["label_names"])))
    tissues = list((tmp_path / "inference").rglob("*_tissue.nii.gz"))
    assert len(tissues) == (len(label_maps) if kind.settings.get("variant") == "multi_output" else 0)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=() if name == "mixcl" else pytest.mark.slow) for name in KINDS],
    indirect=True,
)
def test_bundle_trains_in_two_processes(bundle: Path, kind: Kind, scans: Path, tmp_path: Path) -> None:
    places = {"dataset_dir": scans, "output_dir": tmp_path / "run", **kept(kind, tmp_path)}
    arguments = [
        word for key, value in (SHORT_TRAINING | kind.training | places).items() for word in (f"--{key}", str(value))
    ]
    run_in_bundle(
        bundle,
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"),
        *("--config_file", "['configs/train.json','configs/multi_gpu_train.json']", *arguments),
    )
    assert (tmp_path / "run" / "model.pt").is_file()


def kept(kind: Kind, folder: Path) -> dict[str, str]:
    """Folders of what a training keeps for others."""
    names = ("store", "tissue", "rough") if kind.bundle == "ms_lesion" else ("store",)
    return {f"{name}_dir": str(folder / name) for name in names}

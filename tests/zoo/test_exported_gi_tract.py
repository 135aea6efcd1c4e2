"""The exported GI tract bundle: an ensemble with its own weights, and a training of its own network alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from exported_kinds import BUNDLES, KINDS
from monai.bundle import ConfigWorkflow
from running import run_in_process

from mtmed.bundle.messages import mendable
from mtmed.networks import build_network, save_network
from mtmed.zoo import export_bundle

SOURCE = BUNDLES / "gi_tract"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Weights files of a network with FiLM on 2.5D slices, and of a plain one."""
    paths = []
    for seed, name in enumerate(("gi_tract film", "gi_tract")):
        torch.manual_seed(seed)
        paths.append(tmp_path_factory.mktemp("run") / "model.pt")
        save_network(paths[-1], build_network(KINDS[name].definition), KINDS[name].settings)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def exported(checkpoints: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    return export_bundle(SOURCE, checkpoint=checkpoints[0], output=output, name="abdomen_mr_segmentation")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(KINDS["gi_tract"].scans(tmp_path_factory.mktemp("scans")))


@pytest.fixture(scope="module")
def scan(cohort: Path) -> str:
    """Folder of the slices of one scan."""
    return str(next(cohort.glob("test/*/*/scans")))


def segment(bundle: Path, *configs: str, output_dir: Path, **options: Any) -> np.ndarray:
    """Label map of the only scan."""
    workflow = ConfigWorkflow(
        config_file=[str(bundle / config) for config in configs],
        bundle_root=str(bundle),
        output_dir=str(output_dir),
        device="cpu",
        **options,
    )
    workflow.initialize()
    workflow.run()
    (label_map,) = output_dir.rglob("*_seg.nii.gz")
    return np.asarray(nib.load(label_map).dataobj)


def test_ensemble_of_the_exported_weights_and_a_run_is_that_of_the_source(
    exported: Path, checkpoints: list[str], scan: str, tmp_path: Path
) -> None:
    expected = segment(
        SOURCE, "inference.json", "ensemble.json", output_dir=tmp_path / "a", input=scan, checkpoints=checkpoints
    )
    own = [str(exported / "models" / "model.pt"), checkpoints[1]]
    configs = ("configs/inference.json", "configs/ensemble.json")
    found = segment(exported, *configs, output_dir=tmp_path / "b", input=scan, checkpoints=own)
    np.testing.assert_array_equal(found, expected)
    alone = segment(exported, configs[0], output_dir=tmp_path / "c", input=scan)
    assert not np.array_equal(alone, expected)


def refusal(start: Callable[[], Any]) -> str:
    """The one line that a run ends with."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        start()
    error = mendable(caught.value)
    assert error is not None, caught.value
    return str(error)


def test_ensemble_of_one_is_refused(exported: Path, scan: str, tmp_path: Path) -> None:
    configs = ("configs/inference.json", "configs/ensemble.json")
    line = refusal(lambda: segment(exported, *configs, output_dir=tmp_path, input=scan))
    assert "an ensemble has two or more models" in line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"network": "big_unet"}, "network: is 'big_unet'; choose one of small_unet"),
        ({"film": True}, "film: unknown option"),
        ({"film_features": ["day_number"]}, "film_features: unknown option"),
        ({"network_defs::small_unet::depth": 3}, "network_defs::small_unet::depth: unknown option"),
        ({"features": []}, "network_def::film: is told slice_position, pixel_height, the data give none"),
        ({"slice_offsets": [0]}, "network_def::in_channels: is 3, the data have 1; pass --network_def::in_channels 1"),
        ({"network_def::out_channels": 4}, "network_def::out_channels: is 4, the data have 3"),
    ],
)
def test_exported_training_refuses_what_its_network_contradicts(
    exported: Path, cohort: Path, tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    given = {"output_dir": str(tmp_path / "run"), "store_dir": str(cohort / "store"), "dataset_dir": str(cohort)}
    given |= {"bundle_root": str(exported), "device": "cpu", "shares": [50, 25, 25], "batch_size": 2, **options}
    assert line in refusal(lambda: run_in_process("train", given, bundle=exported / "configs"))

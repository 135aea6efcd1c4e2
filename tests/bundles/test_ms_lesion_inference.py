"""The MS bundle's inference: lesions on the FLAIR's own grid, and the tissue step made by itself as in training."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import run
from monai.inferers import sliding_window_inference
from ms_lesion_runs import MS_LESION, SPACING, TINY_MS, run_ms_lesion, write_brains

from mtmed.bundle.messages import mendable
from mtmed.networks import build_network, save_network
from mtmed.transforms import segment_tissue

MODALITIES = ["FLAIR", "T1", "T2"]
TISSUES = ["csf", "grey_matter", "white_matter"]
PATCH = TINY_MS["patch_size"]
T1_BORDERS = [-0.85, 0.05, 1.13]  # of the tissues that `paint` paints: 50, 175 and 325 before normalisation
WHOLE = [32, 48, 32]  # voxels, a window that holds a whole toy brain


def settings_of(variant: str, **more: Any) -> dict[str, Any]:
    """What a trained network of this variant carries."""
    two_heads = variant == "multi_output"
    return {
        "variant": variant,
        "label_names": {"0": "background", "1": "lesion"},
        "modalities": MODALITIES,
        "input_channels": MODALITIES + (TISSUES if variant == "multi_input" else []),
        "output_channels": ["background", "lesion"] + (["outside", *TISSUES] if two_heads else []),
        "heads": [2, 4] if two_heads else [2],
        "spacing": [SPACING] * 3,
        "patch_size": PATCH,
        "brain_mask": False,
        "tissue": "hmrf",
        "tissue_modality": "T1",
        "tissue_table": "mtmed",
        "merged_lesions": "out_of_fold",
        **more,
    }


def save_balanced(path: Path, settings: Mapping[str, Any], seed: int = 0) -> torch.nn.Module:
    """Write a random network that sees lesions in about a tenth of the brain, so that maps differ when it is fed
    something else."""
    torch.manual_seed(seed)
    channels = {"in_channels": len(settings["input_channels"]), "out_channels": len(settings["output_channels"])}
    network = build_network({"_target_": "mtmed.networks.UNet", "features": [3, 4, 4, 4, 4, 3], **channels}).eval()
    with torch.no_grad():
        logits = network(torch.randn(1, channels["in_channels"], *PATCH))
        network.final_conv.bias[1] -= torch.quantile((logits[:, 1] - logits[:, 0]).flatten(), 0.9)
    save_network(path, network, settings)
    return network


# --- geometry -----------------------------------------------------------------------------------------------------


def affine_of(spacing: tuple[float, ...], angle: float = 0.0, codes: tuple[int, ...] = (1, 1, 1)) -> np.ndarray:
    """Affine whose axes meet the middle of a brain of 60 mm at the origin."""
    turn, tilt = np.eye(3), np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilt[1:, 1:] = [[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(codes) * np.asarray(spacing)
    return affine


GEOMETRIES = {
    "RAS": affine_of((2.0, 2.2, 2.4)),
    "LAS": affine_of((2.0, 2.2, 2.4), codes=(-1, 1, 1)),
    "RPI": affine_of((2.0, 2.2, 2.4), codes=(1, -1, -1)),
    "oblique": affine_of((2.0, 2.2, 2.4), angle=0.35),
    "anisotropic": affine_of((1.6, 1.6, 4.0)),
}


def paint(path: Path, modality: str, affine: np.ndarray) -> dict[str, np.ndarray]:
    """Write one contrast of a brain that is known at every point of space; gives its lesions and tissues."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shape = tuple(int(np.ceil(80 / step)) for step in spacing)
    affine = affine.copy()
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    x, y, z = np.einsum("ij,j...->i...", affine[:3, :3], np.indices(shape)) + affine[:3, 3, None, None, None]
    radius = np.sqrt(x**2 + (1.2 * y) ** 2 + z**2)
    tissue = np.select([radius < 8, radius < 20, radius < 25, radius < 30], [1, 3, 2, 1], 0)
    lesion = ((x - 13) ** 2 + y**2 + (z - 6) ** 2 < 90) | ((x + 10) ** 2 + (y - 6) ** 2 + (z + 9) ** 2 < 60)
    bright = {"T1": (0, 100, 250, 400), "FLAIR": (0, 80, 110, 100), "T2": (0, 140, 110, 100)}[modality]
    image = np.array(bright)[tissue] + np.where(lesion & (modality != "T1"), 200, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    scan = nib.Nifti1Image(image.astype(np.int16), affine)
    scan.header.set_xyzt_units("mm")
    scan.to_filename(path)
    return {"lesion": lesion, "tissue": tissue}


class Oracle(torch.nn.Module):
    """Lesions where FLAIR and T2 are bright; tissues by T1. Borders are halfway, in deviations from the mean."""

    definition = {"_target_": "oracle"}  # noqa: RUF012

    def __init__(self, two_heads: bool) -> None:
        super().__init__()
        self.two_heads = two_heads

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flair, t1, t2 = image[:, :3].unbind(1)
        lesion = (flair > 1.9) & (t2 > 1.9)
        maps = torch.stack([~lesion, lesion], 1).float()
        if self.two_heads:
            tissue = torch.bucketize(t1.contiguous(), torch.tensor(T1_BORDERS)).where(t1 != 0, 0)
            maps = torch.cat([maps, torch.nn.functional.one_hot(tissue, 4).movedim(-1, 1).float()], 1)
        return maps


def run_oracle(tmp_path: Path, oracle: Oracle, settings: dict[str, Any], given: Mapping[str, str]) -> Path:
    (tmp_path / "model.pt").write_bytes(b"oracle")
    workflow = ConfigWorkflow(
        config_file=str(MS_LESION / "inference.json"),
        meta_file=None,
        logging_file=False,
        workflow_type=None,
        checkpoint=str(tmp_path / "model.pt"),
        network_def=oracle,
        settings=settings,
        input=dict(given),
        output_dir=str(tmp_path / "out"),
        device="cpu",
        run=["$@evaluator.run()"],
    )
    workflow.initialize()
    workflow.run()
    return tmp_path / "out"


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_lesion_and_tissue_maps_lie_on_the_grid_of_the_flair(name: str, tmp_path: Path) -> None:
    """T1 and T2 lie on two other grids."""
    affines = {"FLAIR": GEOMETRIES[name], "T1": affine_of((1.5, 1.5, 1.5), angle=0.2), "T2": GEOMETRIES["RPI"]}
    files = {modality: tmp_path / "scans" / f"{modality}.nii.gz" for modality in MODALITIES}
    painted = {modality: paint(files[modality], modality, affines[modality]) for modality in MODALITIES}
    settings = settings_of("multi_output", spacing=[1.5, 1.5, 1.5], patch_size=[32, 32, 32])
    given = {modality: str(path) for modality, path in files.items()}
    out = run_oracle(tmp_path, Oracle(two_heads=True), settings, given)
    source = nib.load(files["FLAIR"])
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["FLAIR_seg.nii.gz", "FLAIR_tissue.nii.gz"]
    for kind in ("seg", "tissue"):
        written = nib.load(out / f"FLAIR_{kind}.nii.gz")
        assert written.shape == source.shape
        assert np.array_equal(written.affine, source.affine)
        assert written.get_data_dtype() == np.uint8
        assert written.header["xyzt_units"] == source.header["xyzt_units"]
    lesion = np.asarray(nib.load(out / "FLAIR_seg.nii.gz").dataobj)
    assert set(np.unique(lesion)) == {0, 1}
    assert dice(lesion == 1, painted["FLAIR"]["lesion"]) > 0.85
    tissue = np.asarray(nib.load(out / "FLAIR_tissue.nii.gz").dataobj)
    for value in range(4):
        assert dice(tissue == value, painted["FLAIR"]["tissue"] == value) > 0.8, value
    record = json.loads((out / "FLAIR_tissue.json").read_text())
    assert record["label_names"] == {"0": "outside", "1": "csf", "2": "grey_matter", "3": "white_matter"}
    assert json.loads((out / "FLAIR_seg.json").read_text())["variant"] == "multi_output"


def test_lesion_map_is_exact_where_nothing_is_resampled(tmp_path: Path) -> None:
    files = {modality: tmp_path / f"{modality}.nii.gz" for modality in MODALITIES}
    painted = {modality: paint(files[modality], modality, GEOMETRIES["RPI"]) for modality in MODALITIES}
    settings = settings_of("single", spacing=[2.0, 2.2, 2.4], patch_size=[32, 32, 32])
    given = {modality: str(path) for modality, path in files.items()}
    out = run_oracle(tmp_path, Oracle(two_heads=False), settings, given)
    lesion = np.asarray(nib.load(out / "FLAIR_seg.nii.gz").dataobj)
    assert np.array_equal(lesion == 1, painted["FLAIR"]["lesion"])


# --- the tissue step ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people without labels; interpolation has left their scans slightly negative in places."""
    folder = Path(write_brains(tmp_path_factory.mktemp("people") / "scans", patients=2, visits=1, raters=0, seed=7))
    for path in (folder / "images").iterdir():
        scan = voxels(path).copy()
        scan[tuple(np.argwhere(scan != 0)[::40].T)] = -3
        nib.Nifti1Image(scan, nib.load(path).affine).to_filename(path)
    return folder


def infer(folder: Path, **more: Any) -> Path:
    given = {"checkpoint": str(folder / "model.pt"), "output_dir": str(folder / "out"), "device": "cpu", **more}
    return run_ms_lesion("inference", given)


def said(folder: Path, **more: Any) -> str:
    """The one line that inference ends with."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        infer(folder, **more)
    error = mendable(caught.value)
    assert error is not None, caught.value
    return str(error)


def voxels(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def scan_of(cohort: Path, number: int = 0) -> dict[str, str]:
    return {modality: str(cohort / "images" / f"p{number}_0_{modality}.nii.gz") for modality in MODALITIES}


def normalised(files: Mapping[str, str]) -> np.ndarray:
    """Mean 0 and deviation 1 over what is not 0; the toy brains are RAS and have the network's spacing already."""
    channels = []
    for path in files.values():
        image = voxels(path).astype(np.float64)
        brain = image != 0
        channels.append(np.where(brain, (image - image[brain].mean()) / image[brain].std(), 0))
    return np.stack(channels)


def labels_of(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """Lesions by MONAI's own inferer, in one window with the whole volume."""
    batch = torch.from_numpy(image)[None].float()
    with torch.no_grad():
        logits = sliding_window_inference(batch, WHOLE, 1, network)
    return logits[0, :2].argmax(0).numpy()


def one_hot(tissue: np.ndarray) -> np.ndarray:
    return np.stack([tissue == value for value in (1, 2, 3)])


def agree(written: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for voxels where two float sums of logits tie."""
    return bool((written != expected).mean() < 1e-3) and 0 < expected.mean() < 0.5


def test_multi_input_runs_rough_network_tissue_and_merging_by_itself(cohort: Path, tmp_path: Path) -> None:
    rough = save_balanced(tmp_path / "rough.pt", settings_of("single", patch_size=WHOLE), seed=1)
    network = save_balanced(tmp_path / "model.pt", settings_of("multi_input", patch_size=WHOLE), seed=2)
    # as typed
    command = ["--config_file", str(MS_LESION / "inference.json"), "--checkpoint", str(tmp_path / "model.pt")]
    command += ["--input", str(scan_of(cohort)), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    fire.Fire(run, command=command)
    image = normalised(scan_of(cohort))
    tissue = segment_tissue(voxels(scan_of(cohort)["T1"]), spacing=[SPACING] * 3)
    merged = np.where((labels_of(rough, image) == 1) & (image != 0).any(0), 3, tissue)
    written = voxels(tmp_path / "out" / "p0_0_FLAIR_seg.nii.gz")
    assert agree(written, labels_of(network, np.concatenate([image, one_hot(merged)])))
    assert not agree(written, labels_of(network, np.concatenate([image, one_hot(tissue)])))
    assert not (tmp_path / "out" / "p0_0_FLAIR_tissue.nii.gz").exists()


def test_tissue_maps_of_the_user_replace_those_that_would_be_made(cohort: Path, tmp_path: Path) -> None:
    """As SPM numbers them; nothing is merged into them."""
    table = {"tissue": "files", "tissue_table": "spm", "merged_lesions": "none"}
    network = save_balanced(tmp_path / "model.pt", settings_of("multi_input", patch_size=WHOLE, **table))
    maps = cohort / "maps" / "p1_0_tissue.nii.gz"
    own = voxels(maps)
    spm = np.select([own == 1, own == 2, own == 3], [3, 1, 2], 0).astype(np.uint8)
    nib.Nifti1Image(spm, nib.load(maps).affine).to_filename(tmp_path / "spm.nii.gz")
    given = {**scan_of(cohort, 1), "maps": {"tissue": str(tmp_path / "spm.nii.gz")}}
    out = infer(tmp_path, input=given)
    expected = labels_of(network, np.concatenate([normalised(scan_of(cohort, 1)), one_hot(own)]))
    assert agree(voxels(out / "p1_0_FLAIR_seg.nii.gz"), expected)


def test_folder_of_a_cohort_gives_a_map_per_case_and_takes_its_maps(cohort: Path, tmp_path: Path) -> None:
    files = {"tissue": "files", "merged_lesions": "none", "patch_size": WHOLE}
    network = save_balanced(tmp_path / "model.pt", settings_of("multi_input", **files))
    out = infer(tmp_path, input=str(cohort))
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["p0_0_FLAIR_seg.nii.gz", "p1_0_FLAIR_seg.nii.gz"]
    for number in (0, 1):
        tissue = voxels(cohort / "maps" / f"p{number}_0_tissue.nii.gz")
        expected = labels_of(network, np.concatenate([normalised(scan_of(cohort, number)), one_hot(tissue)]))
        assert agree(voxels(out / f"p{number}_0_FLAIR_seg.nii.gz"), expected)


def test_brain_mask_strips_whole_heads(cohort: Path, tmp_path: Path) -> None:
    """Heads with their masks give what skull-stripped brains give."""
    network = save_balanced(tmp_path / "model.pt", settings_of("single", brain_mask=True, patch_size=WHOLE))
    given: dict[str, Any] = {}
    for modality, path in scan_of(cohort).items():
        brain = nib.load(path)
        head = np.where(voxels(path) == 0, 900, voxels(path))
        given[modality] = str(tmp_path / f"{modality}.nii.gz")
        nib.Nifti1Image(head, brain.affine).to_filename(given[modality])
    out = infer(tmp_path, input={**given, "maps": {"brain_mask": str(cohort / "maps" / "p0_0_brain.nii.gz")}})
    expected = labels_of(network, normalised(scan_of(cohort)))
    assert agree(voxels(out / "FLAIR_seg.nii.gz"), expected)


def test_missing_modality_is_a_channel_of_zeros_where_that_is_allowed(cohort: Path, tmp_path: Path) -> None:
    network = save_balanced(tmp_path / "model.pt", settings_of("single", patch_size=WHOLE))
    given = {name: path for name, path in scan_of(cohort).items() if name != "T2"}
    out = infer(tmp_path, input=given, allow_missing=True)
    image = np.concatenate([normalised(given), np.zeros((1, *voxels(given["FLAIR"]).shape))])
    assert agree(voxels(out / "p0_0_FLAIR_seg.nii.gz"), labels_of(network, image))


def test_rough_network_is_looked_for_beside_a_checkpoint_without_a_folder(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_balanced(tmp_path / "model.pt", settings_of("multi_input"))
    save_balanced(tmp_path / "rough.pt", settings_of("single"))
    monkeypatch.chdir(tmp_path)
    out = infer(tmp_path, checkpoint="model.pt", input=scan_of(cohort))
    assert (out / "p0_0_FLAIR_seg.nii.gz").is_file()


def test_loader_workers_change_nothing(cohort: Path, tmp_path: Path) -> None:
    """Also with a GPU, which the rough network cannot have in a worker."""
    save_balanced(tmp_path / "model.pt", settings_of("multi_input"), seed=2)
    save_balanced(tmp_path / "rough.pt", settings_of("single"), seed=1)
    alone = infer(tmp_path, input=str(cohort))
    rough = {"preprocessing#transforms#7#device": "cuda"}
    helped = infer(tmp_path, input=str(cohort), workers=1, output_dir=str(tmp_path / "helped"), **rough)
    for name in ("p0_0_FLAIR_seg.nii.gz", "p1_0_FLAIR_seg.nii.gz"):
        assert voxels(alone / name).any()
        assert np.array_equal(voxels(alone / name), voxels(helped / name))


def test_missing_rough_network_is_named_with_the_remedy(cohort: Path, tmp_path: Path) -> None:
    save_balanced(tmp_path / "model.pt", settings_of("multi_input"))
    assert said(tmp_path, input=scan_of(cohort)) == (
        f"{tmp_path / 'rough.pt'}: no such file; it holds the rough lesion network; "
        "pass --rough_checkpoint with the rough.pt that training wrote beside model.pt"
    )
    save_balanced(tmp_path / "elsewhere.pt", settings_of("single"))
    out = infer(tmp_path, input=scan_of(cohort), rough_checkpoint=str(tmp_path / "elsewhere.pt"))
    assert (out / "p0_0_FLAIR_seg.nii.gz").is_file()


# --- training and inference see the same --------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["single", "multi_input", "multi_output"])
def test_inference_feeds_the_network_what_validation_fed_it(variant: str, trained_ms: Callable[[str], Path]) -> None:
    folder = trained_ms(variant)
    training = ConfigParser(json.loads((folder / "config.json").read_text()))
    volumes = training.get_parsed_content("validate#dataset").volumes
    inference = ConfigParser()
    inference.read_config(str(MS_LESION / "inference.json"))
    inference.update({"checkpoint": str(folder / "model.pt"), "device": "cpu"})
    preprocessing = inference.get_parsed_content("preprocessing")
    assert len(volumes) == 2
    for volume in volumes:
        kept = volume.crop((0, 0, 0), volume.shape)["image"]
        fed = preprocessing({"image": list(volume.case.image)})["image"].numpy()
        assert fed.shape == kept.shape
        assert len(fed) == (6 if variant == "multi_input" else 3)
        rounding = np.ptp(fed.reshape(len(fed), -1), axis=1) / 131070
        assert (np.abs(fed - kept).reshape(len(fed), -1).max(1) <= rounding * 1.01).all()
        assert np.array_equal(fed == 0, kept == 0)

"""Stage 2 of the two-stage bundle: what the student learns, from whom, on which images, and what it says of that."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy
from two_stage_runs import TINY_3D, losses_of

from mtmed.bundle.messages import mendable
from mtmed.networks import load_network
from mtmed.networks.weights import load_checkpoint, load_weights

RECORD = {"+train#handlers": [{"_target_": "rank_record.RankRecord", "folder": "@output_dir"}]}
# the view that the network sees is the image of the batch, and the network stays as it was drawn
AS_DRAWN = {"augmentation": "none", "learning_rate": 1e-12, "epochs": 1}
UNET_2D = {
    "_target_": "mtmed.networks.UNet",
    "in_channels": 1,
    "out_channels": 1,
    "features": [4, 4, 4, 4, 8, 4],
    "norm": ["group", {"num_groups": 2}],  # one pixel is left on the coarsest level
    "spatial_dims": 2,
}


@pytest.fixture(scope="module")
def teachers(trained_two_stage: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two networks of stage 1, made so bold that they contradict each other and the start of a student."""
    folder, paths = tmp_path_factory.mktemp("teachers"), []
    for seed, task in enumerate(("none", "inner_distance")):
        content = load_weights(trained_two_stage(task) / "model.pt")
        generator = torch.Generator().manual_seed(seed)
        shape = content["model"]["final_conv.weight"].shape
        content["model"]["final_conv.weight"] = 8 * torch.randn(shape, generator=generator)
        torch.save(content, folder / f"{task}.pt")
        paths.append(str(folder / f"{task}.pt"))
    return paths


@pytest.fixture
def record(tmp_path: Path) -> str:
    """Overlay that keeps what was in each batch."""
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    return str(tmp_path / "record.json")


@pytest.fixture
def distill(train_two_stage: Any, teachers: list[str]) -> Callable[..., Path]:
    return lambda *overlays, **more: train_two_stage("distill", *overlays, **{"teachers": teachers, **more})


def batches(folder: Path) -> list[dict[str, Any]]:
    return torch.load(folder / "rank0.pt", weights_only=True)["batches"]


def spoken(path: str | Path, image: torch.Tensor, temperature: float = 1.0, *, train: bool = False) -> torch.Tensor:
    """Probabilities that a network gives an image, float64."""
    network, _ = load_network(path)
    with torch.no_grad():
        return torch.sigmoid(network.train(train)(image).double() / temperature)


def ensemble(paths: list[str], image: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return torch.stack([spoken(path, image, temperature) for path in paths]).mean(0)


# --- what is learnt -----------------------------------------------------------------------------------------------


def test_the_student_comes_to_say_what_its_teachers_say_together(
    distill: Any, teachers: list[str], tmp_path: Path, record: str
) -> None:
    given = {"hard_weight": 0, "learning_rate": 0.02, "iterations_per_epoch": 30, "augmentation": "none"}
    folder = distill(record, **given)
    rows = losses_of(folder)
    assert list(rows[0]) == ["iteration", "loss", "distillation", "learning_rate"]
    drawn = distill(**AS_DRAWN, output_dir=str(tmp_path / "drawn"))
    image = batches(folder)[0]["image"]
    target = ensemble(teachers, image)

    def far(path: Path) -> float:
        return float((spoken(path, image) - target).abs().mean())

    assert far(folder / "last.pt") < 0.5 * far(drawn / "last.pt"), (far(folder / "last.pt"), far(drawn / "last.pt"))
    assert rows[-1]["distillation"] < rows[0]["distillation"]
    # they do not agree
    one, other = (spoken(path, image) for path in teachers)
    assert float((one - other).abs().mean()) > 0.05


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_cross_entropy_with_the_mean_of_the_teachers(
    temperature: float, distill: Any, teachers: list[str], record: str
) -> None:
    folder = distill(record, **AS_DRAWN, temperature=temperature, hard_weight=0.5, soft_weight=2.0)
    for row, batch in zip(losses_of(folder), batches(folder), strict=True):
        image, label = batch["image"], batch["label"].double()
        target = ensemble(teachers, image, temperature)
        found = spoken(folder / "last.pt", image, temperature, train=True)
        expected = temperature**2 * float(binary_cross_entropy(found, target))
        assert row["distillation"] == pytest.approx(expected, rel=1e-4)
        plain = spoken(folder / "last.pt", image, train=True)
        assert row["cross_entropy"] == pytest.approx(float(binary_cross_entropy(plain, label)), rel=1e-4)
        total = 0.25 * (row["cross_entropy"] + row["dice"]) + 2.0 * row["distillation"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)


# --- on which images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [50, pytest.param(100, marks=pytest.mark.slow)])
def test_unlabelled_images_are_seen_only_when_asked_for(
    fraction: int, distill: Any, record: str, tmp_path: Path
) -> None:
    given = {"fraction": fraction, "epochs": 1, "iterations_per_epoch": 12, "batch_size": 8}
    labelled = 8 * fraction // 100
    seen = batches(distill(record, **given, output_dir=str(tmp_path / "labelled")))
    assert {int(one) for batch in seen for one in batch["volume"]} == set(range(labelled))
    assert not any(name.startswith("auxiliary") for name in seen[0])

    folder = distill(record, **given, unlabelled=True)
    seen = batches(folder)
    assert {int(one) for batch in seen for one in batch["volume"]} == set(range(labelled))
    # those that the fraction left out, and the eight without a label
    assert {int(one) for batch in seen for one in batch["auxiliary/volume"]} == set(range(16))
    assert "auxiliary/label" not in seen[0]
    assert list(losses_of(folder)[0])[2:5] == ["cross_entropy", "dice", "distillation"]
    # a patient that was seen without a label was seen
    assert len(load_weights(folder / "model.pt")["settings"]["trained_on"]) == 16


# --- from whom ----------------------------------------------------------------------------------------------------


def test_teachers_of_other_classes_teach_as_well(
    distill: Any, teachers: list[str], train_two_stage: Any, record: str
) -> None:
    other = train_two_stage("stage1", task="none", network_def=UNET_2D, epochs=1)
    assert load_weights(other / "model.pt")["network_def"]["_target_"] == "mtmed.networks.UNet"
    paths = [teachers[0], str(other / "model.pt")]
    folder = distill(record, **AS_DRAWN, teachers=paths, hard_weight=0)
    for row, batch in zip(losses_of(folder), batches(folder), strict=True):
        found = spoken(folder / "last.pt", batch["image"], train=True)
        expected = float(binary_cross_entropy(found, ensemble(paths, batch["image"])))
        assert row["distillation"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_networks_of_volumes_learn_from_each_other(hearts: Any, train_two_stage: Any, tmp_path: Path) -> None:
    data = {"dataset_dir": hearts["data"], "store_dir": hearts["store"], "epochs": 1, "batch_size": 2}
    paths = []
    for name in ("unet3d", "dense_unet"):
        given = {**TINY_3D[name], **data, "task": "none", "output_dir": str(tmp_path / name)}
        paths.append(str(train_two_stage("stage1", **given) / "model.pt"))
    folder = train_two_stage("distill", **TINY_3D["unetr"], **data, teachers=paths)
    assert np.isfinite([row["distillation"] for row in losses_of(folder)]).all()
    network, settings = load_network(folder / "model.pt")
    assert settings["patch_size"] == [32, 32, 32]
    assert network.eval()(torch.rand(1, 1, 32, 32, 32)).shape == (1, 3, 32, 32, 32)


def test_the_student_has_seen_whom_its_teachers_saw(distill: Any, teachers: list[str]) -> None:
    folder = distill(fraction=50, epochs=1)
    settings = load_weights(folder / "model.pt")["settings"]
    assert settings["trained_on"] == load_weights(teachers[0])["settings"]["trained_on"]
    assert len(settings["trained_on"]) == 8
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in teachers]
    assert settings["teachers_sha256"] == digests
    # of the teachers nothing goes with it, and in its checkpoint is only who they are
    network, _ = load_network(folder / "model.pt")
    assert set(load_weights(folder / "model.pt")["model"]) == set(network.state_dict())
    kept = load_checkpoint(folder / "checkpoint.pt")
    names = {name.removeprefix("network.") for name in kept["model"]}
    assert names == {*network.state_dict(), "tasks.distillation._extra_state"}


def test_a_student_does_not_go_on_with_a_teacher_that_was_replaced(
    distill: Any, teachers: list[str], tmp_path: Path
) -> None:
    own = [shutil.copy(path, tmp_path) for path in teachers]
    folder = distill(teachers=own, epochs=1, output_dir=str(tmp_path / "student"))
    before = (folder / "checkpoint.pt").read_bytes()
    content = load_weights(own[1])
    content["model"]["final_conv.weight"] += 1
    torch.save(content, own[1])
    with pytest.raises(Exception) as caught:  # noqa: PT011
        distill(teachers=own, epochs=2, output_dir=str(folder))
    assert str(mendable(caught.value)).startswith("teachers: hold other weights than those with which this run began; ")
    assert (folder / "checkpoint.pt").read_bytes() == before


def test_teachers_that_were_trained_on_validation_patients_are_refused(distill: Any) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        distill(fold=1)
    line = str(mendable(caught.value))
    assert "cases are of patients that" in line
    assert "--allow_seen true" in line
    assert "\n" not in line

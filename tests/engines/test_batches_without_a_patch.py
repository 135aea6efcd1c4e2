"""Pre-training on auxiliary roles alone, from stored volumes to TensorBoard."""

import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.data import Case, CropDataset, EverySlice, RandomCrop, SeparateBatches, VolumeStore, crop_loader
from mtmed.engines import MultiTaskTrainer, batch_roles
from mtmed.handlers import LossHistory, Progress, TensorBoardLog
from mtmed.losses import ConstantWeighting
from mtmed.networks import build_network
from mtmed.tasks import MultiTaskModel, Reconstruction
from mtmed.transforms import Affine, GaussianNoise, ViewMaker

DRAWS = {"2D": EverySlice(), "3D": RandomCrop(patch_size=(16, 16, 16))}


def read(data):
    """Stands for a reader."""
    generator = torch.Generator().manual_seed(len(data["image"]))
    image = torch.rand(1, 20, 16, 16, generator=generator)
    return {"image": image, **({"label": (image > 0.7).float()} if "label" in data else {})}


@pytest.fixture
def volumes(tmp_path):
    cases = []
    for number in range(4):
        path = tmp_path / f"case{'x' * number}"
        path.write_text("")
        cases.append(Case(str(number), (str(path),), str(path) if number < 2 else None, str(number), "toy"))
    return VolumeStore(tmp_path / "store", transforms=[read]).build(cases)


@pytest.mark.parametrize("kind", [*DRAWS])
def test_pre_training_runs_without_a_patch(volumes, kind, tmp_path):
    draw = SeparateBatches(segmentation=None, auxiliary=DRAWS[kind], partner=True, labelled_only=False, maps=False)
    loader = crop_loader(CropDataset(volumes, draw, seed=0, global_batch_size=4), batch_size=4)
    torch.manual_seed(0)
    definition = {"_target_": "mtmed.networks.UNet", "in_channels": 1, "out_channels": 1}
    definition |= {"features": [2, 2, 4, 4, 4, 2], "spatial_dims": int(kind[0])}
    definition["norm"] = ["group", {"num_groups": 2}]
    task = Reconstruction(views=["auxiliary", "partner"], branch="coarsest")
    model = MultiTaskModel(network=build_network(definition), tasks={"autoencoding": task})
    trainer = MultiTaskTrainer(
        device="cpu",
        max_epochs=2,
        epoch_length=2,
        train_data_loader=loader,
        model=model,
        optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01),
        weighting=ConstantWeighting(weights={"reconstruction": 1.0}),
        views=ViewMaker(
            views={"auxiliary": "auxiliary", "partner": "partner"},
            geometry=[Affine(probability=1.0, rotate_degrees=10.0)],
            intensity=[GaussianNoise(probability=1.0)],
        ),
        train_handlers=[
            LossHistory(path=tmp_path / "losses.csv"),
            TensorBoardLog(log_dir=tmp_path / "events", organs=["organ"], axcodes="SPL"),
            Progress(),
        ],
    )
    trainer.run()
    assert math.isfinite(trainer.state.output["loss"])
    views = trainer.state.output["views"]
    assert set(views) == {"auxiliary", "partner"}
    # each role has a geometry of its own, so that the same slice is seen twice
    assert not torch.equal(views["auxiliary"]["clean"], views["partner"]["clean"])
    events = EventAccumulator(str(tmp_path / "events"), size_guidance={"images": 0}).Reload()
    assert {"auxiliary/image", "partner/image", "reconstruction/auxiliary"} <= set(events.Tags()["images"])
    assert len(Path(tmp_path, "losses.csv").read_text().splitlines()) > 2


def test_a_role_that_is_not_in_the_batch_is_named():
    roles = batch_roles(
        {"step": 0, "positions": torch.arange(2), "auxiliary": {"image": torch.zeros(2, 1, 4, 4)}}, "cpu"
    )
    assert set(roles) == {"auxiliary"}
    with pytest.raises(ValueError, match="view patch: shows the role 'patch', the batch has 'auxiliary'"):
        ViewMaker(views={"patch": "patch"})(roles, seed=0, step=0, positions=[0, 1])

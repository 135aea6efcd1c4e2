"""A trainer of a tiny network on batches that are made from nothing."""

from dataclasses import dataclass
from typing import Any

import torch
from monai.losses import DiceCELoss

from mtmed.data.case import Case
from mtmed.engines import MultiTaskTrainer
from mtmed.losses import ConstantWeighting
from mtmed.networks import build_network
from mtmed.tasks import MultiTaskModel, Reconstruction, Segmentation
from mtmed.transforms import Flip, GaussianNoise, ViewMaker

__all__ = ["Batches", "make_model", "make_trainer"]

SIZE = (16, 16, 16)


@dataclass
class Row:
    """What the trainer asks of a stored volume."""

    case: Case


class Batches:
    """Endless batches, each a function of its step; ``spoilt`` gives a batch that is not finite."""

    def __init__(self, batch_size: int = 2, spoilt: int | None = None) -> None:
        self.batch_size, self.spoilt = batch_size, spoilt
        self.volumes = [Row(Case(f"scan_{n}", (), None, f"p{n}", "Toy")) for n in range(5)]

    @property
    def dataset(self) -> "Batches.Volumes":
        return Batches.Volumes(self.volumes)

    @dataclass
    class Volumes:
        """The end of the chain of data sets."""

        volumes: list[Row]

    def batch(self, step: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(step)
        image = torch.rand((self.batch_size, 1, *SIZE), generator=generator)
        if step == self.spoilt:
            image[0, 0, 0, 0, 0] = torch.nan
        return {
            "image": image,
            "label": (image > 0.6).to(torch.uint8),
            "volume": torch.tensor([(step + n) % 5 for n in range(self.batch_size)]),
            "dataset": torch.zeros(self.batch_size, dtype=torch.int64),
            "step": step,
            "positions": torch.arange(self.batch_size),
        }

    def __iter__(self) -> Any:
        step = 0
        while True:
            yield self.batch(step)
            step += 1


def make_model(dropout: float = 0.0) -> MultiTaskModel:
    torch.manual_seed(0)
    definition = {
        "_target_": "mtmed.networks.UNETR",
        "in_channels": 1,
        "out_channels": 2,
        "img_size": list(SIZE),
        "feature_size": 2,
        "hidden_size": 12,
        "mlp_dim": 12,
        "num_heads": 2,
        "dropout_rate": dropout,
    }
    tasks = {
        "segmentation": Segmentation(loss=DiceCELoss(to_onehot_y=True, softmax=True)),
        "reconstruction": Reconstruction(views=["patch"]),
    }
    return MultiTaskModel(network=build_network(definition), tasks=tasks)


def make_trainer(*, loader: Any = None, dropout: float = 0.0, **options: Any) -> MultiTaskTrainer:
    model = make_model(dropout)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    given = {
        "device": "cpu",
        "max_epochs": 1,
        "epoch_length": 3,
        "train_data_loader": loader or Batches(),
        "model": model,
        "optimizer": optimizer,
        "weighting": ConstantWeighting(weights={"segmentation": 1.0, "reconstruction": 0.5}),
        "views": ViewMaker(
            views={"patch": "patch"},
            geometry=[Flip(probability=0.5, axes=(0, 1))],
            intensity=[GaussianNoise(probability=0.5)],
        ),
        "precision": "float32",
    }
    return MultiTaskTrainer(**{**given, **options})

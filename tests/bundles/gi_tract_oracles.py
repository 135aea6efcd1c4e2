"""Networks that know the answer, so that what is wrong in a prediction was done by the chain around them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gi_tract_runs import ORGANS, paint_abdomen, run_gi_tract
from numpy.typing import NDArray

from mtmed.organ_masks import packed_names

__all__ = ["Ramp", "ReadOut", "oracle_options", "oracle_settings", "packed", "run_oracle"]


class ReadOut(torch.nn.Module):
    """The grey value, 0 to 1, is the packed mask of the organs divided by 7."""

    definition = {"_target_": "read_out"}  # noqa: RUF012
    condition_features = ()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        packed = (image[:, 0] * 7).round().long()
        return torch.stack([(packed >> organ & 1) * 20.0 - 10 for organ in range(3)], 1)


class Ramp(torch.nn.Module):
    """Organ k is where the grey value is above its threshold; so gentle that probabilities are as straight as it is."""

    definition = {"_target_": "ramp"}  # noqa: RUF012
    condition_features = ()

    def __init__(self, thresholds: Sequence[float] = (0.35, 0.5, 0.65)) -> None:
        super().__init__()
        self.thresholds = tuple(thresholds)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([image[:, 0] - threshold for threshold in self.thresholds], 1)


def packed(seed: int = 1) -> NDArray[np.uint8]:
    """Masks of a patient packed, D H W; all values are there, the lowest and the highest too."""
    masks = paint_abdomen(seed)[1]
    label = sum(mask.astype(np.uint8) << bit for bit, mask in enumerate(masks))
    label[3, 2:5, 4] = np.arange(5, 8)
    return np.asarray(label, np.uint8)


def oracle_settings(image_size: Sequence[int], **more: Any) -> dict[str, Any]:
    """What the weights file of such a network would say."""
    return {
        "organs": list(ORGANS),
        "label_names": {str(value): name for value, name in packed_names(ORGANS).items()},
        "modalities": ["MR"],
        "slice_offsets": [0],
        "image_size": list(image_size),
        "normalise_per": "scan",
        "features": [],
        **more,
    }


def oracle_options(folder: Path, network: torch.nn.Module, image_size: Sequence[int], **more: Any) -> dict[str, Any]:
    """Options that put a network in the place of one from a weights file."""
    (folder / "model.pt").write_bytes(b"oracle")
    given = {"network_def": network, "settings": oracle_settings(image_size)}
    return {"checkpoint": str(folder / "model.pt"), "device": "cpu", "run": ["$@evaluator.run()"], **given, **more}


def run_oracle(stage: str, folder: Path, network: torch.nn.Module, image_size: Sequence[int], **more: Any) -> Path:
    """Run a stage with such a network into ``folder/out``."""
    given = {"output_dir": str(folder / "out"), **more}
    return run_gi_tract(stage, oracle_options(folder, network, image_size, **given))

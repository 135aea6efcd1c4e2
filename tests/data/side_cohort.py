"""Small stored volumes with a map of sides, for tests: boxes of voxels stand for kidneys."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtmed.data.case import Case
from mtmed.data.volume_store import VolumeStore
from mtmed.data.volumes import Volumes

__all__ = ["SHAPE", "sided_cohort"]

SHAPE = (24, 16, 14)
LEFT = [2, 3, 4, 8, 10, 9]
RIGHT = [14, 4, 3, 21, 9, 11]


def kidneys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Stands for reading and finding kidneys; the file says where they are."""
    content = json.loads(Path(data["image"]).read_text())
    generator = torch.Generator().manual_seed(content["seed"])
    side = torch.zeros((1, *SHAPE))
    for value, box in content["sides"].items():
        low, high = box[:3], box[3:]
        side[0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = int(value)
    image = torch.randn((content["channels"], *SHAPE), generator=generator) * 50
    return {"image": image, "side": side, "remarks": content["remarks"]}


def sided_cohort(
    folder: Path,
    rows: Sequence[tuple[str, str, str]],
    *,
    boxes: Mapping[int, list[int]] | None = None,
    channels: int = 1,
    maps: Sequence[str] = ("side",),
) -> Volumes:
    """Store unlabelled cases.

    Args:
        folder: where to write.
        rows: data set, patient and sides of each case, for example ``("kits", "p1", "LR")``.
        boxes: of each side: first voxel, then the voxel after the last one.
        channels: of the images.
        maps: see `VolumeStore`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boxes = boxes or {1: LEFT, 2: RIGHT}
    cases = []
    for number, (dataset, patient, sides) in enumerate(rows):
        path = folder / f"case{number}"
        present = {value: boxes[value] for value, letter in ((1, "L"), (2, "R")) if letter in sides}
        remarks = [f"{name} kidney missing" for name, letter in (("left", "L"), ("right", "R")) if letter not in sides]
        path.write_text(json.dumps({"sides": present, "seed": number, "remarks": remarks, "channels": channels}))
        cases.append(Case(str(number), (str(path),), None, patient, dataset))
    return VolumeStore(folder / "store", transforms=[kidneys], maps=maps).build(cases)

"""From draws to batches, every sample a pure function of (seed, step, position).

The sampler numbers the samples of a run by step and position in the global batch, and the data set turns such a number
into a case and a generator. So neither loader workers, nor how many processes share a batch, nor a restart change what
step k sees.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mtmed.data.distance import DistanceUnit, boundary_distance, voxel_size
from mtmed.data.draw import Box, Draw
from mtmed.data.region import read_region
from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError
from mtmed.randomness import random_generator

__all__ = ["CropDataset", "CropLoader", "StepBatchSampler", "collate_crops", "crop_loader"]


class CropDataset(Dataset[dict[str, Any]]):
    """Crops of prepared volumes, addressed by (step, position in the global batch).

    With k = step * global_batch_size + position, the case is number k mod n of pass k // n, each pass in its own
    random order: every case is seen once per pass, and no pass waits for a batch boundary.

    Args:
        volumes: the prepared cohort of n volumes.
        draw: which boxes make a sample, see `mtmed.data.draw`.
        seed: seed of the run.
        global_batch_size: samples per step over all processes.
        patch_distance: unit in which `mtmed.data.distance.boundary_distance` of each patch's own label replaces the
            volume's. It costs a distance transform per patch and does not see a boundary just outside the patch. None
            keeps what the store has.
    """

    def __init__(
        self,
        volumes: Volumes,
        draw: Draw,
        *,
        seed: int,
        global_batch_size: int,
        patch_distance: DistanceUnit | None = None,
    ) -> None:
        if not len(volumes):
            raise InputError("volumes", "the cohort has no case", "list at least one training case")
        if not isinstance(global_batch_size, int) or global_batch_size < 1:
            raise InputError("global_batch_size", f"is {global_batch_size}, allowed is >= 1", "correct the batch size")
        self.volumes, self.draw, self.seed = volumes, draw, seed
        self.global_batch_size = global_batch_size
        self.patch_distance = patch_distance
        self._order: tuple[int, Sequence[int]] = (-1, ())

    def case_index(self, step: int, position: int) -> int:
        """Index of the volume whose turn it is."""
        turn, place = divmod(step * self.global_batch_size + position, len(self.volumes))
        if self._order[0] != turn:
            order = random_generator(self.seed, turn, 0, "order").permutation(len(self.volumes))
            self._order = (turn, order.tolist())
        return self._order[1][place]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Draw and read one sample.

        Returns:
            ``image`` float32 (C, H, W, D), ``label`` and ``distance`` (1, H, W, D) where there are any, ``volume``
            and ``dataset`` of the role ``"patch"``; each other role as a dictionary of these under its name;
            ``step`` and ``position``. A box with a region gives, instead of all arrays, ``image`` as
            `mtmed.data.region.read_region` shows it, and ``value``, the region's.
        """
        step, position = key
        generator = random_generator(self.seed, step, position, "draw")
        boxes = self.draw(self.volumes, self.case_index(step, position), generator)
        sample: dict[str, Any] = {"step": step, "position": position}
        for role, box in boxes.items():
            volume = self.volumes[box.volume]
            part = self._read(volume, box)
            part |= {"volume": box.volume, "dataset": volume.dataset}
            if role == "patch":
                sample |= part
            else:
                sample[role] = part
        return sample

    def _read(self, volume: Volume, box: Box) -> dict[str, Any]:
        if box.region is not None:
            image = read_region(volume, box.start, box.size, box.region)
            return {"image": torch.from_numpy(image), "value": box.region.value}
        arrays = volume.crop(box.start, box.size)
        if self.patch_distance is not None and "label" in arrays:
            size = voxel_size(volume.affine, self.patch_distance)
            arrays["distance"] = boundary_distance(arrays["label"][0], spacing=size)[None].astype(np.float32)
        return {name: torch.from_numpy(values) for name, values in arrays.items()}


class StepBatchSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches of (step, position) of one process.

    Process r of w takes the positions r * batch_size to (r + 1) * batch_size - 1 of each step.

    Args:
        batch_size: samples per process and step.
        rank: number of this process; by default that of torch.distributed, 0 without it.
        world_size: number of processes; by default that of torch.distributed, 1 without it.
        start_step: step of the first batch; set it before iterating to resume.
    """

    def __init__(
        self, *, batch_size: int, rank: int | None = None, world_size: int | None = None, start_step: int = 0
    ) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.batch_size = batch_size
        self.rank = rank if rank is not None else torch.distributed.get_rank() if distributed else 0
        self.world_size = world_size or (torch.distributed.get_world_size() if distributed else 1)
        self.start_step = start_step
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError("batch_size", f"is {batch_size}, allowed is >= 1", "correct the batch size")
        if not 0 <= self.rank < self.world_size:
            raise InputError("rank", f"is {self.rank} of {self.world_size} processes", "correct rank or world_size")

    @property
    def global_batch_size(self) -> int:
        """Samples per step over all processes."""
        return self.batch_size * self.world_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.start_step
        first = self.rank * self.batch_size
        while True:
            yield [(step, first + offset) for offset in range(self.batch_size)]
            step += 1


def collate_crops(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch.

    Returns:
        The sample's entries as B C H W D tensors and LongTensor B; ``step`` as int; ``positions`` LongTensor B.
        An entry that only some samples have (the label of a partly labelled batch) is an `InputError`.
    """
    batch = _collate([{k: v for k, v in s.items() if k not in ("step", "position")} for s in samples])
    batch["step"] = int(samples[0]["step"])
    batch["positions"] = torch.tensor([sample["position"] for sample in samples])
    return batch


class CropLoader(DataLoader[dict[str, Any]]):
    """`DataLoader` that raises an `InputError` of a worker as it is, not as a RuntimeError around its traceback."""

    def __iter__(self) -> Any:
        """Yield batches; see `crop_loader`."""
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                raise batch
            yield batch


def crop_loader(
    dataset: CropDataset,
    *,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
    sampler: StepBatchSampler | None = None,
) -> CropLoader:
    """Loader of endless batches; set ``loader.batch_sampler.start_step`` before iterating to resume.

    Args:
        dataset: the crops.
        batch_size: samples per process and step; times the number of processes it must be the global batch size.
        workers: loader processes; their number does not change the batches.
        pin_memory: copy batches to page-locked memory, for a GPU.
        sampler: instead of the default `StepBatchSampler`, one with explicit rank or start.

    Raises:
        InputError: batch size and processes do not make the data set's global batch size.
    """
    sampler = sampler or StepBatchSampler(batch_size=batch_size)
    if sampler.global_batch_size != dataset.global_batch_size:
        problem = f"{sampler.batch_size} x {sampler.world_size} processes is not {dataset.global_batch_size}"
        raise InputError("batch_size", problem, "set global_batch_size to their product")
    return CropLoader(
        _ErrorsAsSamples(dataset),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate_or_error,
        pin_memory=pin_memory,
    )


class _ErrorsAsSamples(Dataset[Any]):
    """Torch rebuilds a worker's exception from its text alone, so an `InputError` travels as data."""

    def __init__(self, dataset: CropDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Any:
        try:
            return self.dataset[key]
        except InputError as error:
            return error


def _collate_or_error(samples: Sequence[Any]) -> Any:
    try:
        return next((s for s in samples if isinstance(s, InputError)), None) or collate_crops(samples)
    except InputError as error:
        return error


def _collate(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if len(values) < len(parts):
            problem = f"{len(parts) - len(values)} of {len(parts)} samples of a batch have none"
            raise InputError(
                name, problem, "use cases that all have it, or draw those without it as a role of their own"
            )
        if isinstance(values[0], Mapping):
            batch[name] = _collate(values)
        elif isinstance(values[0], torch.Tensor):
            shapes = sorted({tuple(value.shape) for value in values})
            if len(shapes) > 1:
                same_channels = len({shape[0] for shape in shapes}) == 1
                remedy = (
                    "set batch_size 1, or draw boxes of one size"
                    if same_channels
                    else "use cases with the same channels"
                )
                raise InputError(name, f"has the shapes {shapes} in one batch", remedy)
            batch[name] = torch.stack(values)
        else:
            batch[name] = torch.tensor(values)
    return batch

"""From samples to batches, each a pure function of (seed, step, position).

The sampler numbers the samples of a run by step and position in the global batch, and the data set turns such a number
into a case and a generator. So neither loader workers, nor how many processes share a batch, nor a restart change what
step k sees.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mtmed.data.crop_dataset import CropDataset
from mtmed.errors import InputError

__all__ = ["CropDataset", "CropLoader", "StepBatchSampler", "collate_crops", "crop_loader"]


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
        InputError: batch size and processes do not make the data set's global batch size, or a process would get a part
            of a group of samples that are drawn together.
    """
    sampler = sampler or StepBatchSampler(batch_size=batch_size)
    if sampler.global_batch_size != dataset.global_batch_size:
        problem = f"{sampler.batch_size} x {sampler.world_size} processes is not {dataset.global_batch_size}"
        raise InputError("batch_size", problem, "set global_batch_size to their product")
    if sampler.batch_size % dataset.group_size:
        problem = f"is {sampler.batch_size} per process, the draw makes groups of {dataset.group_size} samples"
        raise InputError("batch_size", problem, f"give every process a multiple of {dataset.group_size}")
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

"""A loss that is not finite in one of two processes ends both, and the one that has the cases names them."""

from pathlib import Path

import torch
from tiny_trainer import Batches, make_trainer
from torch import distributed as dist
from torch import multiprocessing

from mtmed.errors import InputError

SPOILT_STEP = 2


def train(process: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=process, world_size=2)
    trainer = make_trainer(loader=Batches(spoilt=SPOILT_STEP if process == 1 else None), epoch_length=5)
    try:
        trainer.run()
    except InputError as error:
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in trainer.network.parameters())
        (folder / f"process{process}.txt").write_text(f"{error}\nweights finite: {finite}\n")
    dist.destroy_process_group()


def test_both_end_before_the_step_and_the_cases_are_named(tmp_path: Path) -> None:
    multiprocessing.spawn(train, (tmp_path,), nprocs=2)
    other, spoilt = ((tmp_path / f"process{process}.txt").read_text().splitlines() for process in range(2))
    assert spoilt[0].startswith(f"iteration {SPOILT_STEP + 1}: the loss is not finite (segmentation nan,")
    assert f"for Toy/scan_{SPOILT_STEP}, Toy/scan_{SPOILT_STEP + 1};" in spoilt[0]
    assert other[0].startswith(f"iteration {SPOILT_STEP + 1}: the loss is not finite (")
    assert "here, in another process not" in other[0]
    assert spoilt[1:] == other[1:] == ["weights finite: True"]

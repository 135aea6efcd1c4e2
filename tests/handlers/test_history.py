"""The table of losses, also where a process was killed while it wrote it."""

import csv

import pytest
import torch

from mtmed.handlers import Checkpoint, LossHistory


def run(trainer, folder):
    Checkpoint(
        path=folder / "checkpoint.pt",
        model=trainer.multi_task_model,
        optimizer=trainer.optimizer,
        lr_scheduler=trainer.lr_scheduler,
    ).attach(trainer)
    LossHistory(path=folder / "losses.csv").attach(trainer)
    outputs = trainer.go()
    return outputs, (folder / "losses.csv").read_text()


def test_numbers_are_read_back_bit_by_bit(small_trainer, tmp_path):
    outputs, text = run(small_trainer(), tmp_path)
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["iteration", "loss", "fit", "size", "learning_rate"]
    assert [int(row["iteration"]) for row in rows] == list(range(1, 7))
    for row, output in zip(rows, outputs, strict=True):
        assert float(row["loss"]) == output["loss"]
        assert {name: float(row[name]) for name in output["losses"]} == output["losses"]
        assert float(row["learning_rate"]) == output["learning_rate"]


@pytest.mark.parametrize(
    "left",
    [
        "5,1.0,1.0,1.0,0.1\r\n6,1.0,1.0,1.0,0.1\r\n",
        "5,1.0,1.0,1.0,0.1\r\n6,1.0",
        "5",
        "1",
        "5,1.0,1.0,1.0,",
        "",
    ],
)
def test_resumed_run_cuts_the_table_back_to_its_checkpoint(left, small_trainer, tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    _, expected = run(small_trainer(epochs=4), tmp_path / "whole")
    run(small_trainer(epochs=2, total=8), tmp_path / "cut")
    table = tmp_path / "cut" / "losses.csv"
    table.write_bytes(table.read_bytes() + left.encode())
    _, text = run(small_trainer(epochs=4), tmp_path / "cut")
    assert text == expected


@pytest.mark.parametrize("left", ["iterat", "iteration,loss,fit,size,learning_rate\r\n1,2.0", "", "1,2,3\r\n4,5,6\r\n"])
def test_run_without_a_checkpoint_starts_the_table_anew(left, small_trainer, tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    _, expected = run(small_trainer(), tmp_path / "whole")
    (tmp_path / "cut" / "losses.csv").write_bytes(left.encode())
    assert run(small_trainer(), tmp_path / "cut")[1] == expected


def test_finished_run_leaves_the_table_alone(small_trainer, tmp_path):
    _, first = run(small_trainer(), tmp_path)
    outputs, second = run(small_trainer(), tmp_path)
    assert outputs == []
    assert first == second
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 6

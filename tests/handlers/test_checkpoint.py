"""A run that is taken up again is the run that was not interrupted."""

import logging

import pytest
import torch
from ignite.engine import Events

from mtmed.errors import InputError
from mtmed.handlers import Checkpoint, LossHistory


def attach(trainer, path, **options):
    handler = Checkpoint(
        path=path,
        model=trainer.multi_task_model,
        optimizer=trainer.optimizer,
        lr_scheduler=trainer.lr_scheduler,
        **options,
    )
    handler.attach(trainer)
    return handler


class Killed(BaseException):
    """Stands for the end of the process."""


def test_interrupted_run_is_bit_identical(small_trainer, tmp_path):
    whole = small_trainer(epochs=5)
    expected = whole.go()
    first = small_trainer(epochs=5)
    attach(first, tmp_path / "checkpoint.pt")

    @first.on(Events.ITERATION_COMPLETED(once=5))
    def die(engine):
        raise Killed

    with pytest.raises(Killed):
        first.go()
    second = small_trainer(epochs=5)
    with torch.no_grad():
        second.multi_task_model.weight.zero_()
    attach(second, tmp_path / "checkpoint.pt")
    assert second.go() == expected[4:]
    assert torch.equal(second.multi_task_model.weight, whole.multi_task_model.weight)
    assert second.state.iteration == 10


def test_checkpoint_is_saved_after_handlers_that_were_attached_later(small_trainer, tmp_path):
    trainer, order = small_trainer(epochs=1), []
    handler = attach(trainer, tmp_path / "checkpoint.pt")
    LossHistory(path=tmp_path / "losses.csv").attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append(handler.path.is_file()))
    trainer.go()
    assert order == [False]
    assert handler.path.is_file()
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 3


def test_checkpoint_holds_plain_values_only(small_trainer, tmp_path):
    trainer = small_trainer()
    attach(trainer, tmp_path / "checkpoint.pt")
    trainer.go()
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (content["iteration"], content["epoch"]) == (6, 3)
    assert set(content) == {
        "model",
        "optimizer",
        "lr_scheduler",
        "weighting",
        "iteration",
        "epoch",
        "stopped",
        "circumstances",
    }
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("interval", "saved"), [(2, [2, 4, 5]), (3, [3, 5])])
def test_interval_and_the_last_epoch(interval, saved, small_trainer, tmp_path):
    trainer, epochs = small_trainer(epochs=5), []
    attach(trainer, tmp_path / "checkpoint.pt", epoch_interval=interval)

    @trainer.on(Events.EPOCH_STARTED | Events.COMPLETED)
    def look(engine):
        if (tmp_path / "checkpoint.pt").is_file():
            epochs.append(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"])

    trainer.go()
    assert sorted(set(epochs)) == saved


def test_best_metric_survives(small_trainer, make_evaluator, tmp_path):
    evaluator = make_evaluator()
    trainer = small_trainer(epochs=2)
    attach(trainer, tmp_path / "checkpoint.pt", evaluator=evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(trainer.state.epoch))
    trainer.go()
    best = evaluator.state.best_metric
    assert 0 < best < 1
    assert evaluator.state.best_metric_epoch == 1

    # the network gets worse after the restart, which must not count as a first best
    worse = make_evaluator(network=torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1)))
    again = small_trainer(epochs=3, total=4)
    attach(again, tmp_path / "checkpoint.pt", evaluator=worse)
    again.add_event_handler(Events.EPOCH_COMPLETED, lambda: worse.run(again.state.epoch))
    again.go()
    assert worse.state.metrics["mean_dice"] < best
    assert (worse.state.best_metric, worse.state.best_metric_epoch) == (best, 1)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (content["best_metric"], content["best_metric_epoch"]) == (best, 1)


def test_finished_run_does_nothing_more(small_trainer, tmp_path):
    for expected in (6, 0):
        trainer = small_trainer()
        attach(trainer, tmp_path / "checkpoint.pt")
        assert len(trainer.go()) == expected
    assert trainer.state.iteration == 6


def test_longer_run_goes_on_along_the_longer_schedule(small_trainer, tmp_path, caplog):
    short = small_trainer(epochs=3)
    attach(short, tmp_path / "checkpoint.pt")
    rates = [output["learning_rate"] for output in short.go()]
    long = small_trainer(epochs=6)
    attach(long, tmp_path / "checkpoint.pt")
    with caplog.at_level(logging.INFO):
        rates = [output["learning_rate"] for output in long.go()]
    expected = [output["learning_rate"] for output in small_trainer(epochs=6).go()]
    assert rates == pytest.approx(expected[6:])
    assert long.state.iteration == 12
    assert "The schedule is not the one of the checkpoint" in caplog.text
    assert long.lr_scheduler.T_max == 12
    assert rates[0] > rates[-1] > 0


def test_same_schedule_is_taken_up_without_a_word(small_trainer, tmp_path, caplog):
    short = small_trainer(epochs=2, total=8)
    attach(short, tmp_path / "checkpoint.pt")
    short.go()
    rest = small_trainer(epochs=4)
    attach(rest, tmp_path / "checkpoint.pt")
    with caplog.at_level(logging.INFO):
        rest.go()
    assert "The schedule" not in caplog.text
    assert "Continuing at epoch 3" in caplog.text
    assert "Not bit-identical" not in caplog.text


def test_changed_circumstances_are_noticed(small_trainer, tmp_path, caplog):
    trainer = small_trainer(epochs=1, total=4)
    path = tmp_path / "checkpoint.pt"
    attach(trainer, path)
    trainer.go()
    content = torch.load(path, weights_only=True)
    threads = content["circumstances"]["threads"]
    content["circumstances"]["threads"] = threads + 3
    torch.save(content, path)
    again = small_trainer(epochs=2)
    attach(again, path)
    with caplog.at_level(logging.INFO):
        again.go()
    assert f"Not bit-identical to an uninterrupted run, because these changed: threads {threads + 3} -> {threads}" in (
        caplog.text
    )


def test_scaler_is_part_of_the_checkpoint(small_trainer, tmp_path):
    scales = []
    for scale in (1024.0, 2.0):
        trainer = small_trainer(epochs=1 if scale > 2 else 2, total=4)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        attach(trainer, tmp_path / "checkpoint.pt")
        trainer.add_event_handler(Events.STARTED, lambda engine: scales.append(engine.scaler.state_dict()["scale"]))
        trainer.go()
    assert scales == [1024.0, 1024.0]


def test_checkpoint_of_another_network_is_named(small_trainer, tmp_path):
    trainer = small_trainer(epochs=1)
    attach(trainer, tmp_path / "checkpoint.pt")
    trainer.go()
    other = small_trainer(epochs=2)
    other.multi_task_model = torch.nn.Linear(5, 1)
    attach(other, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another network"):
        other.go()


def test_other_epoch_length_is_refused_where_it_does_not_fit(small_trainer, tmp_path):
    trainer = small_trainer(epochs=1, epoch_length=2)
    attach(trainer, tmp_path / "checkpoint.pt")
    trainer.go()
    other = small_trainer(epochs=2, epoch_length=3)
    attach(other, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"epoch_length: is 3.*iteration 2"):
        other.go()


def test_incomplete_and_damaged_checkpoints_are_named(small_trainer, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {}}, path)
    trainer = small_trainer()
    attach(trainer, path)
    with pytest.raises(InputError, match="holds no"):
        trainer.go()
    path.write_bytes(b"PK\x03\x04 half a file")
    trainer = small_trainer()
    attach(trainer, path)
    with pytest.raises(InputError, match="damaged"):
        trainer.go()


def test_full_disk_keeps_the_last_good_checkpoint(small_trainer, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    trainer = small_trainer(epochs=3)
    attach(trainer, path)
    original = torch.save

    def full(content, file):
        if content["epoch"] < 2:
            return original(content, file)
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="no space left"):
        trainer.go()
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_interval_below_one_is_refused(small_trainer, tmp_path):
    with pytest.raises(InputError, match="epoch_interval"):
        attach(small_trainer(), tmp_path / "checkpoint.pt", epoch_interval=0)

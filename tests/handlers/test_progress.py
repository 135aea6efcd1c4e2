"""What is seen of a run, on a terminal and elsewhere."""

import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from ignite.engine import Events

from mtmed.handlers import Progress

LINE = re.compile(r"epoch (\d)/(\d)  loss (\S+) fit (\S+) size (\S+)  \(0:00:\d\d left\)")


def test_one_line_per_epoch_without_a_terminal(small_trainer, caplog, capfd):
    trainer = small_trainer(epochs=3)
    Progress().attach(trainer)
    with caplog.at_level(logging.INFO):
        outputs = trainer.go()
    lines = [LINE.fullmatch(record.getMessage()) for record in caplog.records if record.name.startswith("mtmed")]
    assert [(line[1], line[2]) for line in lines] == [("1", "3"), ("2", "3"), ("3", "3")]
    for epoch, line in enumerate(lines):
        two = outputs[2 * epoch : 2 * epoch + 2]
        assert line[3] == f"{sum(output['loss'] for output in two) / 2:.4g}"
        assert line[4] == f"{sum(output['losses']['fit'] for output in two) / 2:.4g}"
    assert "%|" not in capfd.readouterr().err


def test_line_has_the_metric_of_its_own_epoch_and_nobody_repeats_it(small_trainer, make_evaluator, caplog):
    trainer, evaluator = small_trainer(epochs=1), make_evaluator()
    Progress(evaluator=evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(1))
    trainer.logger.setLevel(logging.WARNING)
    with caplog.at_level(logging.INFO):
        trainer.go()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert f"| mean_dice {evaluator.state.metrics['mean_dice']:.4g}  (0:00:00 left)" in messages[0]


def test_an_epoch_without_validation_shows_no_metric(small_trainer, make_evaluator, caplog):
    trainer, evaluator = small_trainer(epochs=3), make_evaluator()
    Progress(evaluator=evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: evaluator.run(1))
    with caplog.at_level(logging.INFO, logger="mtmed"):
        trainer.go()
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch ")]
    assert ["mean_dice" in line for line in lines] == [False, True, False]


def test_sums_start_anew_when_a_trainer_runs_twice(small_trainer, caplog):
    trainer = small_trainer(epochs=1)
    Progress().attach(trainer)
    with caplog.at_level(logging.INFO):
        trainer.go()
        trainer.state.max_epochs = None
        trainer.go()
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch ")]
    assert len(lines) == 2


def test_other_processes_are_silent(small_trainer, caplog, monkeypatch):
    monkeypatch.setattr("mtmed.handlers.progress.rank", lambda: 1)
    trainer = small_trainer(epochs=1)
    Progress().attach(trainer)
    with caplog.at_level(logging.INFO, logger="mtmed"):
        trainer.go()
    assert not [record for record in caplog.records if record.name.startswith("mtmed")]


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from conftest import SmallTrainer
from ignite.engine import Events
from mtmed.handlers import Progress
trainer = SmallTrainer(epochs=1, epoch_length=5)
trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(0.12))
Progress().attach(trainer)
trainer.go()
"""


def test_bar_with_the_time_left_on_a_terminal():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder], stderr=slave, stdout=subprocess.DEVNULL, env=environment
    )
    os.close(slave)
    text = b""
    try:
        while chunk := os.read(master, 4096):
            text += chunk
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    os.close(master)
    assert process.wait(60) == 0
    # tqdm's [elapsed<left]
    assert re.search(rb"\d%\|.*loss=.*\[00:0\d<00:0\d\]", text)

"""What the user can mend is one line; a fault of the program stays a traceback."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer
from torch.utils.data import DataLoader, Dataset

from mtmed.bundle import messages
from mtmed.bundle.messages import mendable
from mtmed.data.case import Case
from mtmed.errors import InputError
from mtmed.interruption import SIGNALS

RunToy = Callable[..., list[Any]]


def caught(action: Callable[[], Any]) -> BaseException:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def line(action: Callable[[], Any]) -> str:
    found = mendable(caught(action))
    assert found is not None
    return str(found)


def wrapped(inner: Exception) -> Callable[[], None]:
    def action() -> None:
        try:
            raise inner
        except Exception as error:
            raise RuntimeError("Failed to evaluate ConfigExpression: '$x'") from error

    return action


class Damaged(Dataset[int]):
    """Cases of which one cannot be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise InputError("a: b.nii.gz", "gzip data end early", "copy it; again")


def test_an_input_error_is_found_behind_what_wraps_it() -> None:
    error = InputError("a.nii.gz", "is empty", "copy it again")
    assert mendable(caught(wrapped(error))) is error


def test_an_input_error_of_a_loaders_worker_arrives() -> None:
    assert line(lambda: list(DataLoader(Damaged(), num_workers=1))) == str(
        InputError("a: b.nii.gz", "gzip data end early", "copy it; again")
    )


def test_a_full_disk_names_the_file() -> None:
    text = line(wrapped(OSError(errno.ENOSPC, "No space left on device", "runs/x/losses.csv")))
    assert text.startswith("runs/x/losses.csv: no space left on the disk; free space")


def test_a_full_gpu_names_what_makes_it_full() -> None:
    text = line(wrapped(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ...")))
    assert text == "device: its memory is full (CUDA out of memory); use a smaller batch_size or patch_size"


# what gloo and NCCL say
GONE = {
    "gloo": "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:35211",
    "nccl": "NCCL error in: ProcessGroupNCCL.cpp:77, remote process exited or there was a network error, NCCL 2.21",
}


@pytest.mark.parametrize("library", GONE)
@pytest.mark.parametrize(("count", "lost"), [(2, "process 0 of 2"), (4, "another process of 4")])
def test_a_lost_process_is_named_and_the_same_command_advised(
    library: str, count: int, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtmed.bundle.messages.world_size", lambda: count)
    monkeypatch.setattr("mtmed.bundle.messages.rank", lambda: 1)
    text = line(wrapped(RuntimeError(GONE[library])))
    assert text.startswith(f"process 1: lost {lost} (counted from 0), which has ended or cannot be reached; ")
    assert "run the same command again" in text
    assert "\n" not in text


def test_a_broken_pipe_of_a_single_process_is_no_lost_process() -> None:
    assert mendable(caught(wrapped(RuntimeError(GONE["gloo"])))) is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("DataLoader worker (pid 4711) is killed by signal: Killed. ", " (Killed)"),
        ("DataLoader worker (pid(s) 4711, 4712) exited unexpectedly", ""),
    ],
)
def test_a_killed_worker_of_a_loader_is_told_in_one_line(said: str, reason: str) -> None:
    assert line(wrapped(RuntimeError(said))) == (
        f"a loader worker: was killed{reason}, probably because memory is full; "
        "run the same command again, which continues, with fewer workers"
    )


class Killed(Dataset[int]):
    """Kills the process that reads it, as the system does when memory is full."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


def test_a_worker_that_the_system_kills_is_told_from_other_faults() -> None:
    assert line(lambda: list(DataLoader(Killed(), num_workers=1))).startswith("a loader worker: was killed")


def test_the_memory_of_this_machine_is_told_from_other_faults() -> None:
    assert "memory is full (can't allocate memory)" in line(lambda: torch.empty(2**55, dtype=torch.uint8))


FULL_MEMORY: dict[str, Any] = {
    "of a GPU": (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ..."),
    "of torch": (RuntimeError, "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you"),
    "of Python": (MemoryError,),
    "of the system": (OSError, errno.ENOMEM, "Cannot allocate memory"),
}


def fill_memory(memory: str = "of a GPU") -> None:
    kind, *arguments = FULL_MEMORY[memory]
    raise kind(*arguments)


class TestFullMemory:
    @pytest.mark.parametrize("memory", FULL_MEMORY)
    def test_of_a_case_that_is_predicted_names_the_case(self, memory: str) -> None:
        def predict(engine: Engine, batch: Any) -> None:
            if batch["output_name"] == ["liver_2"]:
                fill_memory(memory)

        loader = [{"output_name": [name]} for name in ("liver_1", "liver_2")]
        text = line(lambda: Engine(predict).run(loader))
        assert text.startswith("liver_2: memory is full (")
        assert text.endswith("; show the network fewer windows at once, use --device cpu, or leave the case out")

    def test_of_a_validation_names_the_case_of_the_validation(self, toy_volumes: Any) -> None:
        def fail(engine: Engine, batch: Any) -> None:
            fill_memory()

        trainer = Engine(lambda engine, batch: None)
        loader = DataLoader(toy_volumes, batch_size=1)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: Engine(fail).run(loader))
        text = line(lambda: trainer.run([{"volume": torch.tensor([2])}]))
        assert text.startswith("Toy/scan_0: memory is full (CUDA out of memory)")

    def test_of_a_training_names_iteration_and_cases_of_the_batch(self, toy_volumes: Any) -> None:
        class Toy(Trainer):
            def _iteration(self, engine: Any, batchdata: Any) -> Any:
                fill_memory()

        loader = DataLoader(toy_volumes, batch_size=2)
        text = line(Toy(device="cpu", max_epochs=1, data_loader=loader).run)
        assert text == (
            "iteration 1: memory is full (CUDA out of memory) with a batch of Toy/scan_0, Toy/scan_1; "
            "use a smaller batch_size or patch_size"
        )

    @pytest.fixture
    def toy_volumes(self) -> Any:
        class Volumes(Dataset[Any]):
            volumes = tuple(SimpleNamespace(case=Case(f"scan_{n}", (), None, f"p{n}", "Toy")) for n in range(3))

            def __len__(self) -> int:
                return 3

            def __getitem__(self, index: int) -> dict[str, int]:
                return {"volume": index}

        return Volumes()


@pytest.mark.parametrize("bug", [AttributeError("'NoneType' object has no attribute 'shape'"), KeyError("image")])
def test_a_fault_of_the_program_is_not_mendable(bug: Exception) -> None:
    assert mendable(caught(wrapped(bug))) is None


def test_an_error_that_replaces_another_on_purpose_hides_it() -> None:
    def action() -> None:
        try:
            raise InputError("a.nii.gz", "is empty", "copy it again")
        except InputError:
            raise AttributeError("a bug") from None

    assert mendable(caught(action)) is None


def test_errors_that_are_each_others_context_end() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__context__, second.__context__ = second, first
    assert mendable(first) is None


class TestConfig:
    def test_a_reference_to_nothing_names_both_ends(self, run_toy: RunToy) -> None:
        text = line(lambda: run_toy(**{"network_def#mlp_dim": "@nothing"}))
        assert text == "network_def::mlp_dim: refers to @nothing, which is not in the config; correct the reference"

    def test_a_reference_to_itself_is_named(self, run_toy: RunToy) -> None:
        assert "refers to itself through @" in line(lambda: run_toy(width="@width"))

    def test_an_argument_of_the_wrong_kind_names_the_component(self, run_toy: RunToy) -> None:
        text = line(lambda: run_toy({"table": {"_target_": "builtins.int", "x": 1}, "pretrained": "@table"}))
        assert text.startswith("table: TypeError: ")
        assert text.endswith("; correct its arguments")

    def test_missing_package_is_named(self, run_toy: RunToy) -> None:
        table = {"_target_": "importlib.import_module", "name": "missing_package"}
        text = line(lambda: run_toy({"table": table, "pretrained": "@table"}))
        assert text == (
            "table: ModuleNotFoundError: No module named 'missing_package'; install the package that is missing"
        )

    def test_a_class_that_is_not_there_is_named(self, run_toy: RunToy) -> None:
        text = line(lambda: run_toy({"table": {"_target_": "mtmed.Nothing"}, "pretrained": "@table"}))
        assert text == "table: there is no class or function mtmed.Nothing; correct _target_"

    def test_an_expression_that_fails_itself_is_named(self, run_toy: RunToy) -> None:
        text = line(lambda: run_toy(pretrained="$'weights' + 5"))
        assert text.startswith("pretrained: TypeError: can only concatenate str")

    def test_a_bug_in_what_an_expression_calls_keeps_its_traceback(self, run_toy: RunToy) -> None:
        assert mendable(caught(lambda: run_toy(pretrained="$mtmed.networks.load_network(torch)"))) is None


class TestProgram:
    @pytest.fixture
    def hook(self) -> Callable[[BaseException], None]:
        return lambda error: messages._print_one_line(type(error), error, error.__traceback__)

    def test_monais_program_gets_the_hook_and_a_users_own_keeps_its_ways(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        messages.install()
        assert sys.excepthook is sys.__excepthook__
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("monai.bundle.__main__", None))
        monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            messages.install()
            heard = {number: signal.getsignal(number) for number in SIGNALS}
        finally:
            for number, listener in before.items():
                signal.signal(number, listener)
        assert sys.excepthook is messages._print_one_line
        assert all(heard[number] != before[number] for number in SIGNALS if before[number] != signal.SIG_IGN)

    def test_the_traceback_is_in_the_log_and_the_line_says_so(
        self, run_toy: RunToy, hook: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = Path(run_toy()[0])
        hook(caught(lambda: run_toy(pretrained="$1 / 0", output_dir=str(folder))))
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith("error: pretrained: ZeroDivisionError: division by zero;")
        assert said[0].endswith(f"(traceback: {folder / 'log.txt'})")
        assert "Traceback (most recent call last)" in (folder / "log.txt").read_text()

    def test_a_bug_prints_its_traceback(
        self, hook: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        hook(caught(wrapped(KeyError("image"))))
        assert "Traceback (most recent call last)" in capsys.readouterr().err

    def test_an_interrupted_run_says_how_it_goes_on(
        self, hook: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        hook(KeyboardInterrupt())
        assert capsys.readouterr().err == "interrupted; the same command continues from the last checkpoint\n"

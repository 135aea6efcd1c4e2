"""What the user can mend is one line; a fault of the program stays a traceback."""

import errno
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mtmed.bundle import messages
from mtmed.bundle.messages import mendable
from mtmed.errors import InputError

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
        messages.install()
        assert sys.excepthook is messages._print_one_line

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

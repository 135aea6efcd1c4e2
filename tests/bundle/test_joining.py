"""Processes that torchrun starts again do not meet what an earlier attempt has left."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from torch import distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from mtmed.bundle import joining
from mtmed.errors import InputError

VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[dist.HashStore]:
    """The table that torchrun keeps, of a world of one process."""
    kept = dist.HashStore()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(joining, "rendezvous", lambda *_, **__: iter([(kept, 0, 1)]))
    yield kept
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize(("machines", "found"), [("1", False), ("2", True)])
def test_on_one_machine_the_second_attempt_does_not_see_what_the_first_has_left(
    machines: str, found: bool, store: dist.HashStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUP_WORLD_SIZE", machines)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    joining.join("gloo")
    assert (dist.get_rank(), dist.get_world_size()) == (0, 1)
    _get_default_store().set("address", "of a process that is killed")
    dist.destroy_process_group()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    joining.join("gloo")
    assert _get_default_store().check(["address"]) is found


@pytest.mark.parametrize("lacking", VARIABLES)
def test_a_process_that_torchrun_did_not_start_says_so(
    lacking: str, store: dist.HashStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(lacking)
    with pytest.raises(InputError, match=f"^{lacking}: is not set, .*; start it by torchrun --nproc_per_node=2 "):
        joining.join("gloo")
    assert not dist.is_initialized()


def test_while_a_process_waits_for_the_others_signals_end_it(
    store: dist.HashStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def waits(*_: Any, **__: Any) -> Iterator[tuple[dist.HashStore, int, int]]:
        seen.append(signal.getsignal(signal.SIGTERM))
        yield store, 0, 1

    monkeypatch.setattr(joining, "rendezvous", waits)

    def hears(*_: Any) -> None:
        """As what saves a run does."""

    before = signal.signal(signal.SIGTERM, hears)
    try:
        joining.join("gloo")
        assert signal.getsignal(signal.SIGTERM) is hears
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIG_DFL]

"""Which type is chosen where."""

import pytest
import torch

from mtmed.engines import choose_precision, precision
from mtmed.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("avx512", "amx"), [(True, False), (False, True), (False, False)])
def test_auto_takes_bfloat16_where_the_cpu_has_instructions_for_it(avx512, amx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", CPU) == (torch.bfloat16 if avx512 or amx else torch.float32)


@pytest.mark.parametrize("supported", [True, False])
def test_auto_takes_bfloat16_where_the_gpu_has_it(supported, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert choose_precision("auto", CUDA) == (torch.bfloat16 if supported else torch.float32)


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("float32", CPU, torch.float32),
        ("bfloat16", CPU, torch.bfloat16),
        ("float32", CUDA, torch.float32),
        ("bfloat16", CUDA, torch.bfloat16),
        ("float16", CUDA, torch.float16),
    ],
)
def test_what_is_asked_for_is_taken(name, device, dtype):
    assert choose_precision(name, device) == dtype


def test_auto_on_other_devices_is_float32():
    assert choose_precision("auto", torch.device("mps")) == torch.float32


def test_float16_on_a_cpu_and_unknown_names_are_refused():
    with pytest.raises(InputError, match="float16 on cpu"):
        choose_precision("float16", CPU)
    with pytest.raises(InputError, match="'half'"):
        choose_precision("half", CPU)  # type: ignore[arg-type]
    assert precision.__all__ == ["Precision", "choose_precision"]

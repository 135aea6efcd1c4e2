"""Which type is chosen where."""

import pytest
import torch

from mtmed.engines import choose_precision
from mtmed.engines.precision import keep_thin_maps_in_float32
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


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 4, 4), (3, 2, 2), (4, 4, 4)])
def test_bfloat16_gradients_of_thin_maps_are_close_to_those_of_float32(shape):
    def gradients(network, image, enabled):
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = network(image)
        assert torch.is_autocast_enabled("cpu") is False
        output.float().pow(2).sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    torch.manual_seed(0)
    network = torch.nn.Conv3d(32, 32, 3, padding=1)
    keep_thin_maps_in_float32(network)
    image = torch.randn(2, 32, *shape)
    expected = gradients(network, image, enabled=False)
    for _ in range(4):
        # memory that is given back full of NaN is what unwritten gradients are read from
        dirty = [torch.full((size,), torch.nan) for size in (1000, 7000, 100_000, 1_000_000)]
        del dirty
        for ours, theirs in zip(gradients(network, image, enabled=True), expected, strict=True):
            assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()


def test_thin_maps_are_computed_in_float32_and_others_in_bfloat16():
    network = torch.nn.Conv3d(4, 4, 3, padding=1)
    keep_thin_maps_in_float32(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.randn(1, 4, 2, 4, 4)).dtype == torch.float32
        assert network(torch.randn(1, 4, 4, 4, 4)).dtype == torch.bfloat16
        with pytest.raises(RuntimeError):
            network(torch.randn(1, 5, 2, 4, 4))
        assert torch.is_autocast_enabled("cpu")

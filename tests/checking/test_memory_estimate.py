"""The memory of a training step and of an inference window, without data."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from mtmed.checking.live_memory import LiveMemory, meta_tensor, tensor_bytes
from mtmed.checking.memory_estimate import inference_bytes, training_bytes
from mtmed.networks import SmallUNet
from mtmed.tasks import MultiTaskModel, Segmentation

FLOAT = 4  # bytes


def small_model(channels: int = 4) -> MultiTaskModel:
    network = SmallUNet(in_channels=1, out_channels=1, base_channels=channels, depth=3)
    task = Segmentation(loss={"cross_entropy": nn.BCEWithLogitsLoss()}, view="patch", overlapping=True)
    return MultiTaskModel(network=network, tasks={"segmentation": task})


def test_what_is_held_at_once_is_counted_once() -> None:
    with LiveMemory() as memory:
        first = meta_tensor(100)
        view = first.view(10, 10)  # shares its memory
        second = view + 1
        del first, view, second
        meta_tensor(150)
    assert memory.peak == 200 * FLOAT


def test_what_autograd_keeps_is_counted() -> None:
    weight = torch.empty(50, requires_grad=True, device="meta")
    with LiveMemory() as memory:
        # kept for the backward pass: the input and the sigmoid; then the gradients
        (meta_tensor(50) * weight).sigmoid().sum().backward()  # type: ignore[no-untyped-call]
    assert 3 * 50 * FLOAT <= memory.peak <= 5 * 50 * FLOAT + 3 * FLOAT
    assert weight.grad is not None


def test_parameters_gradients_and_optimiser_state_are_counted() -> None:
    model = small_model(16)
    trained = tensor_bytes(model, trained_only=True)
    size = {"patch": [16, 16]}
    with_state = training_bytes(model, size, optimiser="Adam", batch_size=1)
    assert with_state - training_bytes(model, size, optimiser="Unheard", batch_size=1) == 0
    assert with_state - training_bytes(model, size, optimiser="SGD", batch_size=1) == trained
    assert with_state > 4 * trained


def test_activations_grow_with_the_batch_and_inference_keeps_none() -> None:
    model = small_model()
    one, two, four = (
        training_bytes(model, {"patch": [64, 64]}, optimiser="Adam", batch_size=number) for number in (1, 2, 4)
    )
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)
    assert inference_bytes(model.network, windows=4, size=[64, 64]) < four / 2
    assert all(parameter.grad is None and parameter.device.type == "cpu" for parameter in model.parameters())


MEASURE = """
import json, resource, torch
from mtmed.checking.memory_estimate import training_bytes
from mtmed.networks import UNet
from mtmed.tasks import MultiTaskModel, Segmentation, StepContext
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
network = UNet(in_channels=1, out_channels=1, features=[16, 32, 64, 128, 256, 16])
task = Segmentation(loss={"ce": torch.nn.BCEWithLogitsLoss()}, view="patch", overlapping=True)
model = MultiTaskModel(network=network, tasks={"s": task})
estimate = training_bytes(model, {"patch": [64, 64, 64]}, optimiser="Adam", batch_size=2)
before = peak() - sum(p.numel() * 4 for p in model.parameters())
optimiser = torch.optim.Adam(model.parameters(), fused=True)
for step in range(2):
    optimiser.zero_grad()
    image = torch.rand(2, 1, 64, 64, 64)
    view = {"image": image, "clean": image.clone(), "label": (image > 0.5).float()}
    losses, _ = model({"patch": view}, StepContext(seed=0, step=step, positions=(0, 1)))
    sum(losses.values()).backward()
    optimiser.step()
print(json.dumps([estimate, peak() - before]))
"""


@pytest.mark.slow
def test_the_estimate_is_near_what_a_process_grows_by() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    estimate, measured = json.loads(done.stdout.splitlines()[-1])
    assert 0.75 * measured < estimate < 1.1 * measured, (estimate, measured)

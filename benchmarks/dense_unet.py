"""A training step of the dense U-Net on a whole volume: recomputed layers and bfloat16 against keeping all in float32.

    python benchmarks/dense_unet.py [--quick] [--size 96 128 128]

A step is forward pass, Dice and cross-entropy, backward pass and Adam. Kept is what autograd holds between forward and
backward pass of the network (each storage once, without parameters). Peak is what a step needs beyond model, image and
what was there before: on a GPU that of torch's allocator, on a CPU that of a fresh process. Networks of MONAI with a
similar role stand below for orientation; they are others, so nothing is compared with them but size.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet, SegResNet
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from torch import Tensor, nn

from mtmed.engines.precision import keep_thin_maps_in_float32
from mtmed.networks import DenseUNet


class Variant(NamedTuple):
    """A network, the type it runs in, and the variant whose loss and gradients it must have."""

    make: Callable[..., nn.Module]
    options: dict[str, Any]
    dtype: torch.dtype = torch.float32
    equals: str | None = None


DENSE = {"in_channels": 1, "out_channels": 2}
BASE, PAPER = "dense U-Net, float32", "paper's order, float32"
NETWORKS = {
    BASE: Variant(DenseUNet, DENSE),
    "recomputed, float32": Variant(DenseUNet, {**DENSE, "recompute": True}, equals=BASE),
    "bfloat16": Variant(DenseUNet, DENSE, torch.bfloat16, BASE),
    "recomputed, bfloat16": Variant(DenseUNet, {**DENSE, "recompute": True}, torch.bfloat16, BASE),
    PAPER: Variant(DenseUNet, {**DENSE, "paper_order": True}),
    "paper's order, recomputed, float32": Variant(
        DenseUNet, {**DENSE, "paper_order": True, "recompute": True}, equals=PAPER
    ),
    "MONAI SegResNet, 8 filters, float32": Variant(SegResNet, {"init_filters": 8, "out_channels": 2}),
    "MONAI BasicUNet, float32": Variant(BasicUNet, {"out_channels": 2}),
}
# largest relative difference of loss and of all gradients together
LIMITS = {torch.float32: 1e-6, torch.bfloat16: 2e-2}


def make_network(name: str, device: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name].make(**NETWORKS[name].options).to(device).train()
    keep_thin_maps_in_float32(network)
    return network


def make_volume(size: Sequence[int], device: str) -> tuple[Tensor, Tensor]:
    """Noise with two brighter balls, which are the label."""
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij"))
    centres = torch.tensor([[-0.5, 0, 0], [0.5, 0.2, 0.1]]).view(2, 3, 1, 1, 1)
    label = ((grid - centres).square().sum(1) < 0.09).any(0)[None, None].long()
    image = label + 0.5 * torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
    return image.to(device), label.to(device)


class Step:
    """One training step of a network, by name."""

    def __init__(self, name: str, size: Sequence[int], device: str) -> None:
        self.network, self.dtype, self.device = make_network(name, device), NETWORKS[name].dtype, device
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3, weight_decay=1e-2)
        self.criterion = DiceCELoss(to_onehot_y=True, softmax=True)
        self.image, self.label = make_volume(size, device)

    def forward(self) -> Tensor:
        """Logits."""
        with torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = self.network(self.image)
        return logits

    def __call__(self) -> float:
        """Forward, backward, Adam."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.forward().float(), self.label)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())  # waits for the GPU

    def loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        """The loss and all gradients in a row, without a change of the weights."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.forward().float(), self.label)
        loss.backward()
        gradients = [parameter.grad for parameter in self.network.parameters()]
        return loss.detach(), torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])

    def kept(self) -> int:
        """Bytes that autograd holds after the forward pass."""
        own = {parameter.untyped_storage().data_ptr() for parameter in self.network.parameters()}
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = self.forward()
        total = sum(storages.values())
        del logits
        return total


def child(name: str, size: Sequence[int]) -> None:
    """Print what a step needs in this process."""
    Step(name, (32, 32, 32), "cpu")()  # what a first call allocates for good
    step = Step(name, size, "cpu")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    step()
    # ru_maxrss would be the parent's where that is larger
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(json.dumps(int(line.split()[1]) * 1024 - before))


def peak(name: str, size: Sequence[int], device: str) -> int:
    """Bytes that a step needs at most."""
    if device == "cuda":
        step = Step(name, size, device)
        step()
        step.optimizer.zero_grad(set_to_none=True)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    threads = str(torch.get_num_threads())
    command = [sys.executable, __file__, "--child", name, "--threads", threads, "--size", *map(str, size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(json.loads(output.strip().splitlines()[-1]))


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).norm() / theirs.norm()).item())


def agreed(steps: Mapping[str, Step], name: str) -> str:
    base = NETWORKS[name].equals
    if base is None:
        return "-"
    pairs = zip(steps[name].loss_and_gradient(), steps[base].loss_and_gradient(), strict=True)
    return agreement(max(relative(*pair) for pair in pairs), LIMITS[NETWORKS[name].dtype], "loss, gradients")


def measure(size: Sequence[int], rounds: int, device: str) -> None:
    steps = {name: Step(name, size, device) for name in NETWORKS}
    kept = {name: step.kept() for name, step in steps.items()}
    peaks = {name: peak(name, size, device) for name in NETWORKS}
    agreements = {name: agreed(steps, name) for name in NETWORKS}
    seconds = compare(steps, rounds=rounds)
    rows = []
    for name, step in steps.items():
        parameters = sum(parameter.numel() for parameter in step.network.parameters()) / 1e6
        rows.append(
            [
                name,
                f"{parameters:.2f} M",
                f"{kept[name] / 2**20:.0f} MiB",
                f"{kept[name] / kept[BASE]:.2f}",
                f"{peaks[name] / 2**20:.0f} MiB",
                f"{peaks[name] / peaks[BASE]:.2f}",
                seconds_text(seconds[name]),
                spread_text(ratio(seconds[name], seconds[BASE])),
                agreements[name],
            ]
        )
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads; {machine()}"
    title = f"Training step, {' x '.join(map(str, size))} voxels, batch 1, medians of {rounds} rounds; {where}"
    header = ["network", "parameters", "kept", "share", "peak", "share", "time", "of the first", "agreement"]
    print_table(title, header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=None, help="voxels of the volume (96 128 128)")
    parser.add_argument("--rounds", type=int, default=None, help="timed rounds, in alternating order (3)")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch (all processors by default)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="a small volume, few rounds")
    parser.add_argument("--child", choices=list(NETWORKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.backends.cudnn.deterministic = True  # so that recomputed layers may be held to equal gradients
    if options.threads:
        torch.set_num_threads(options.threads)
    size = options.size or ([48, 64, 64] if options.quick else [96, 128, 128])
    if options.child:
        child(options.child, size)
        return 0
    measure(size, options.rounds or (2 if options.quick else 3), options.device)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

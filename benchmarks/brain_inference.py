"""Whole-brain inference: the box of the brain against MONAI's sliding window on the whole volume.

    python benchmarks/brain_inference.py [--quick]
    python benchmarks/brain_inference.py --scan FLAIR.nii.gz T1.nii.gz T2.nii.gz --lesions MASK.nii.gz

A brain at 1 mm, a 3D U-Net (MONAI's ``BasicUNet``), windows of 64, overlap 0.5, Gaussian importance. Stock is
``SlidingWindowInferer`` followed by argmax; ours is ``StreamingArgmaxInferer(foreground="nonzero")``. The network is
trained for a few iterations first, because labels of an untrained one hang on every voxel of context. Without
``--scan`` the brain is synthetic: box and share of the volume as in a skull-stripped scan in MNI space, bright lesions,
one brain to train and another to test. With it, training and test are the same scan: what is compared is the
inference, not the network. ``--quick`` takes every second voxel and windows of 32, which leaves the number of windows.
The network normalises each window by itself and our windows lie elsewhere than stock's, so the two label maps differ:
outside the box, where ours has no lesion, and voxel by voxel within it. The table gives the Dice of both with the
lesions and of one with the other.

Goals, exit status 1 if one is missed: 1.5 times faster, Dice with the lesions not more than 0.001 below stock's, peak
memory (each in a process of its own, beyond its state before) not above.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import LoadImage, NormalizeIntensity
from torch.nn import functional

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from mtmed.inferers import StreamingArgmaxInferer
from mtmed.inferers.foreground import foreground_box, foreground_mask

SIZE = (182, 218, 182)
BRAIN_BOX = ((27, 154), (29, 189), (17, 143))  # of a skull-stripped scan in MNI space; see brain_mask
OVERLAP = 0.5
WINDOWS_PER_BATCH = 4


def depth_map() -> torch.Tensor:
    """0 in the middle of the brain, 1 on its surface.

    The brain is the body below 1. It fills its box by 44 % and the volume by 15.7 %, as a brain does (an ellipsoid
    would fill 52 % of the box).
    """
    axes = [
        (torch.arange(side) - (low + high - 1) / 2) / ((high - low) / 2)
        for side, (low, high) in zip(SIZE, BRAIN_BOX, strict=True)
    ]
    return sum(part.abs() ** 1.72 for part in torch.meshgrid(*axes, indexing="ij"))


def smooth_noise(generator: torch.Generator, channels: int, cells: int) -> torch.Tensor:
    coarse = torch.randn(1, channels, cells, cells, cells, generator=generator)
    return functional.interpolate(coarse, SIZE, mode="trilinear", align_corners=True)[0]


def synthetic_brain(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three modalities, 3 H W D, with 60 bright lesions of 2 to 8 mm radius, and their mask, H W D.

    Lesions lie in the depth, where the white matter is.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = depth_map()
    brain = depth <= 1
    image = 1 + 0.15 * smooth_noise(generator, 3, 24) + 0.05 * torch.randn(3, *SIZE, generator=generator)
    voxels = (depth <= 0.5).nonzero()
    lesions = torch.zeros_like(brain)
    for centre in voxels[torch.randint(len(voxels), (60,), generator=generator)].tolist():
        radius = 2 + 6 * float(torch.rand((), generator=generator)) ** 3
        reach = math.ceil(radius)
        box = tuple(slice(max(middle - reach, 0), middle + reach + 1) for middle in centre)
        places = [torch.arange(SIZE[axis])[side] - centre[axis] for axis, side in enumerate(box)]
        lesions[box] |= sum(part**2 for part in torch.meshgrid(*places, indexing="ij")) <= radius**2
    lesions &= brain
    image += torch.tensor([0.4, -0.1, 0.25])[:, None, None, None] * lesions
    return image * brain, lesions


def scan(images: Sequence[str], mask: str) -> tuple[torch.Tensor, torch.Tensor]:
    load = LoadImage(image_only=True)
    return torch.stack([load(file).as_tensor() for file in images]), load(mask).as_tensor() > 0.5


def network_of(channels: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return BasicUNet(3, channels, 2, features=(16, 32, 64, 128, 256, 16))


def train(network: torch.nn.Module, image: torch.Tensor, lesions: torch.Tensor, side: int, iterations: int) -> None:
    """Train on crops drawn as the bundles draw them: per iteration one around a lesion voxel, one anywhere."""
    generator = torch.Generator().manual_seed(0)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    last = torch.tensor(lesions.shape) - side
    voxels = lesions.nonzero()
    for _ in range(iterations):
        centre = voxels[torch.randint(len(voxels), (), generator=generator)]
        anywhere = (torch.rand(3, generator=generator) * (last + 1)).long()
        corners = [torch.minimum((centre - side // 2).clamp(min=0), last), anywhere]
        crops = [tuple(slice(low, low + side) for low in corner.tolist()) for corner in corners]
        logits = network(torch.stack([image[(slice(None), *crop)] for crop in crops]))
        loss = loss_function(logits, torch.stack([lesions[crop] for crop in crops])[:, None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def stock(image: torch.Tensor, network: torch.nn.Module, side: int) -> torch.Tensor:
    inferer = SlidingWindowInferer((side,) * 3, WINDOWS_PER_BATCH, overlap=OVERLAP, mode="gaussian", sigma_scale=0.125)
    with torch.no_grad():
        return inferer(image, network).argmax(1, keepdim=True)


def box(image: torch.Tensor, network: torch.nn.Module, side: int) -> torch.Tensor:
    inferer = StreamingArgmaxInferer(
        roi_size=side, sw_batch_size=WINDOWS_PER_BATCH, overlap=OVERLAP, mode="gaussian", foreground="nonzero"
    )
    return inferer(image, network)


VARIANTS = {"stock, whole volume": stock, "streaming, box of the brain": box}


def child(variant: str, folder: str, side: int) -> None:
    """Measure one variant in this process."""
    image = torch.from_numpy(np.load(f"{folder}/image.npy"))
    network = network_of(image.shape[1]).eval()
    network.load_state_dict(torch.load(f"{folder}/network.pt", weights_only=True))
    VARIANTS[variant](image[..., :side, :side, :side].clone().fill_(1), network, side)  # what a first call keeps
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    VARIANTS[variant](image, network, side)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before))


def peaks(image: torch.Tensor, network: torch.nn.Module, side: int) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/image.npy", image.numpy())
        torch.save(network.state_dict(), f"{folder}/network.pt")
        found = []
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--child", variant, folder, str(side)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output.strip().splitlines()[-1]))
    return found


def window_counts(image: torch.Tensor, side: int) -> list[str]:
    """Windows of both grids and how many of them have any brain."""
    mask = foreground_mask(image[0], "nonzero")
    roi, steps = (side,) * 3, (int(side * (1 - OVERLAP)),) * 3
    cells = []
    for part in (mask, mask[foreground_box(mask, roi_size=roi, steps=steps)]):
        windows = dense_patch_slices(part.shape, roi, steps)
        cells.append(f"{len(windows)} ({sum(bool(part[window].any()) for window in windows)} with brain)")
    return cells


def dice(labels: torch.Tensor, reference: torch.Tensor) -> float:
    first, second = labels.bool().flatten(), reference.bool().flatten()
    return 2 * int((first & second).sum()) / max(int(first.sum() + second.sum()), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every second voxel, windows of 32")
    parser.add_argument("--scan", nargs="+", metavar="FILE", help="skull-stripped modalities on one grid")
    parser.add_argument("--lesions", metavar="FILE", help="lesion mask of the scan")
    parser.add_argument("--iterations", type=int, default=150, help="training iterations (default 150)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, folder, side = options.child
        child(variant, folder, int(side))
        return 0
    if (options.scan is None) != (options.lesions is None):
        parser.error("--scan and --lesions go together")
    print(machine())
    pairs = [scan(options.scan, options.lesions)] if options.scan else [synthetic_brain(1), synthetic_brain(0)]
    stride, side = (2, 32) if options.quick else (1, 64)
    sparse = (..., *(slice(None, None, stride),) * 3)
    normalise = NormalizeIntensity(nonzero=True, channel_wise=True)
    pairs = [(normalise(image[sparse].contiguous()), lesions[sparse].contiguous()) for image, lesions in pairs]
    network = network_of(len(pairs[0][0]))
    train(network, *pairs[0], side, options.iterations)
    network.eval()
    image, lesions = pairs[-1][0][None], pairs[-1][1]

    memory = peaks(image, network, side)
    labels = [run(image, network, side) for run in VARIANTS.values()]
    seconds = compare(
        {name: lambda run=run: run(image, network, side) for name, run in VARIANTS.items()},
        rounds=options.rounds,
        warmup=0,
    )
    first, second = seconds.values()
    scores = [dice(one, lesions) for one in labels]
    gains = ["1", f"{spread_text(ratio(first, second))}; {agreement(ratio(second, first)[0], 1 / 1.5, 'time share')}"]
    apart = ["", f"{agreement(scores[0] - scores[1], 1e-3, 'Dice lost')}; with each other {dice(*labels):.4f}"]
    shares = ["1", agreement(memory[1] / memory[0], 1.0, "share")]
    rows = [
        [name, windows, seconds_text(time), gain, f"{score:.4f} {note}", f"{peak / 2**20:.0f} MiB", share]
        for name, windows, time, gain, score, note, peak, share in zip(
            VARIANTS, window_counts(image, side), (first, second), gains, scores, apart, memory, shares, strict=True
        )
    ]
    title = (
        f"{' x '.join(map(str, lesions.shape))}, {float((image[0] != 0).any(0).float().mean()):.1%} brain, "
        f"{int(lesions.sum())} lesion voxels, windows of {side}, overlap {OVERLAP}, medians of {options.rounds}"
    )
    header = ["variant", "windows", "time", "faster", "Dice, trained network", "peak", "share of stock"]
    print_table(title, header, rows)
    print(f"the network is a trained one: {agreement(1 - scores[0], 0.5, '1 - Dice of stock')}")
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

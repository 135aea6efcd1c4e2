"""Sliding-window inference: streaming argmax against stock MONAI followed by argmax, in memory, time and labels.

    python benchmarks/sliding_window.py [--quick]

Peak memory is what a fresh process needs beyond its state before inference (imports and image), with a predictor that
costs one pass over its output and depends on the place in the window, so that blending matters. Time is measured with
that predictor and with a real network, both variants in alternating rounds. Stock is
``sliding_window_inference(...).argmax(1)``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from mtmed.inferers import StreamingArgmaxInferer

CLASSES = 14
ROI = (96, 96, 96)


def stock(image: torch.Tensor, network: Callable[..., torch.Tensor], batch: int) -> torch.Tensor:
    with torch.no_grad():
        logits = sliding_window_inference(image, ROI, batch, network, overlap=0.5, mode="gaussian", sigma_scale=0.125)
    return logits.argmax(1, keepdim=True)


def streaming(image: torch.Tensor, network: Callable[..., torch.Tensor], batch: int) -> torch.Tensor:
    return StreamingArgmaxInferer(roi_size=ROI, sw_batch_size=batch, overlap=0.5, mode="gaussian")(image, network)


VARIANTS = {"stock": stock, "streaming": streaming}


def cheap_predictor() -> Callable[..., torch.Tensor]:
    """Logits = pattern of the place in the window + class's weight * image: one pass over the output."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, CLASSES, 8, 8, 8, generator=generator)
    pattern = torch.nn.functional.interpolate(coarse, ROI, mode="trilinear")
    weight = torch.randn(1, CLASSES, 1, 1, 1, generator=generator)
    return lambda windows: torch.addcmul(pattern, weight, windows)


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(3, 1, CLASSES, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=1).eval()


def image_of(size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))


def child(variant: str, size: tuple[int, ...], file: str) -> None:
    """Measure one variant in this process and save its labels."""
    predictor = cheap_predictor()
    VARIANTS[variant](image_of(ROI), predictor, 1)  # what a first call allocates for good
    image = image_of(size)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    start = time.perf_counter()
    labels = VARIANTS[variant](image, predictor, 1)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(file, labels.numpy().astype(np.uint8))
    print(json.dumps({"peak": peak - before, "seconds": seconds}))


def memory(size: tuple[int, ...]) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            file = f"{folder}/{variant}.npy"
            command = [sys.executable, __file__, "--child", variant, "--size", *map(str, size), "--file", file]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[variant] = json.loads(output.strip().splitlines()[-1])
        labels = [np.load(f"{folder}/{variant}.npy", mmap_mode="r") for variant in VARIANTS]
        different = sum(int((a != b).sum()) for a, b in zip(labels[0][0, 0], labels[1][0, 0], strict=True))
    voxels = int(np.prod(size))
    share = found["streaming"]["peak"] / found["stock"]["peak"]
    rows = [
        [name, f"{row['peak'] / 2**20:.0f} MiB", part, f"{row['seconds']:.1f} s", ""]
        for (name, row), part in zip(found.items(), ("1", f"{share:.3f}"), strict=True)
    ]
    rows[1][-1] = f"{different} of {voxels} labels: {agreement(different / voxels, 1e-6, 'share different')}"
    title = f"Peak memory, {' x '.join(map(str, size))}, {CLASSES} classes, window 96, overlap 0.5, one process each"
    print_table(title, ["variant", "peak", "share of stock", "time (one run)", "agreement"], rows)


def timing(title: str, size: tuple[int, ...], network: Callable[..., torch.Tensor], rounds: int) -> None:
    image = image_of(size)
    rows = []
    for batch in (1, 4):
        variants = {name: lambda run=run: run(image, network, batch) for name, run in VARIANTS.items()}  # noqa: B023
        first, second = variants["stock"](), variants["streaming"]()
        different = float((first != second).float().mean())
        seconds = compare(variants, rounds=rounds)
        cells = [seconds_text(seconds["stock"]), seconds_text(seconds["streaming"])]
        gain = spread_text(ratio(seconds["stock"], seconds["streaming"]))
        share = spread_text(ratio(seconds["streaming"], seconds["stock"]))
        rows.append([str(batch), *cells, gain, share, agreement(different, 1e-6, "share different")])
    header = ["windows per batch", "stock", "streaming", "faster", "time of stock", "agreement"]
    print_table(f"{title}, {' x '.join(map(str, size))}, {CLASSES} classes, medians of {rounds}", header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small volumes, few rounds")
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, tuple(options.size), options.file)
        return 0
    print(machine())
    memory((224, 192, 128) if options.quick else (512, 512, 300))
    rounds = 3 if options.quick else 5
    small = (128, 112, 96) if options.quick else (192, 192, 160)
    timing("Time, predictor of one pass", small, cheap_predictor(), rounds)
    network = (112, 96, 96) if options.quick else (160, 160, 128)
    timing("Time, small residual U-Net", network, small_network(), rounds)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

"""Losses of MixCL against stock MONAI and plain loops: speed, agreement, exactness of gradients, memory for backward.

    python benchmarks/mixcl_losses.py --rounds 5

Agreement is checked in every row; the exit status is 1 if a row disagrees.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from monai.losses import BarlowTwinsLoss
from scipy.ndimage import distance_transform_edt as scipy_distance
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from torch import Tensor
from torch.nn import functional

from mtmed.losses import (
    CrossCorrelationLoss,
    LabelContrastLoss,
    PixelSample,
    boundary_weight,
    cross_correlation,
    sample_pixels,
    take_pixels,
)
from mtmed.randomness import torch_generator

try:
    from edt import edt as fast_distance
except ImportError:
    fast_distance = None

Rows = Iterator[list[str]]
REDUNDANCY_WEIGHT = 0.0051
STOCK = BarlowTwinsLoss(lambd=REDUNDANCY_WEIGHT)
OURS = CrossCorrelationLoss(redundancy_weight=REDUNDANCY_WEIGHT)


def stock_identity(first: Tensor, second: Tensor) -> Tensor:
    return STOCK(*(view.movedim(1, -1).flatten(0, -2) for view in (first, second)))


def gradients(loss: Callable[[Tensor, Tensor], Tensor], views: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss(*views), views)


def saved_bytes(loss: Callable[[Tensor, Tensor], Tensor], views: list[Tensor]) -> int:
    """Bytes that the graph keeps beyond the two feature maps, each storage counted once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = loss(*views)  # alive until counted, so that no address is used twice
    for view in views:
        storages.pop(view.untyped_storage().data_ptr(), None)
    del graph
    return sum(storages.values())


def gradient_error(loss: Callable[[Tensor, Tensor], Tensor], views: list[Tensor]) -> float:
    exact = [view.detach().double().requires_grad_() for view in views]
    reference = gradients(loss, exact)
    errors = [
        ((mine - truth).norm() / truth.norm()).item()
        for mine, truth in zip(gradients(loss, views), reference, strict=True)
    ]
    return max(errors)


def identity_row(channels: int, size: int, batch: int, rounds: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(batch, channels, size, size, size, generator=generator)
    second = first + 0.5 * torch.randn(first.shape, generator=generator)
    views = [first.requires_grad_(), second.requires_grad_()]
    seconds = compare(
        {"stock": lambda: gradients(stock_identity, views), "ours": lambda: gradients(OURS, views)}, rounds=rounds
    )
    # MONAI divides by n where its deviations divide by n - 1, and adds 1e-6 to the deviations
    voxels = first.numel() // channels
    matrix = cross_correlation(first.detach().double(), second.detach().double()) * (voxels - 1) / voxels
    inflation = [1 + 1e-6 / view.detach().double().transpose(0, 1).flatten(1).std(1) for view in views]
    matrix = matrix / inflation[0][:, None] / inflation[1]
    expected = torch.where(
        torch.eye(channels, dtype=torch.bool), (1 - matrix) ** 2, REDUNDANCY_WEIGHT * matrix**2
    ).sum()
    with torch.no_grad():
        stock = stock_identity(first.double(), second.double()).item()
        exact, single = OURS(first.double(), second.double()).item(), OURS(first, second).item()
    difference = max(abs(stock - expected.item()) / stock, abs(single - exact) / exact)
    our_error, stock_error = gradient_error(OURS, views), gradient_error(stock_identity, views)
    extra = [saved_bytes(loss, views) / 2**20 for loss in (stock_identity, OURS)]
    return [
        f"identity {channels} ch {size}^3 B{batch}, forward + backward",
        seconds_text(seconds["stock"]),
        seconds_text(seconds["ours"]),
        spread_text(ratio(seconds["stock"], seconds["ours"])),
        agreement(difference, 2e-5, "loss"),
        f"gradient error {stock_error:.0e} -> {our_error:.0e}; kept {extra[0]:.0f} -> {extra[1]:.2f} MiB",
    ]


def organs(size: int, classes: int) -> np.ndarray:
    """Label volume of ellipsoids, one per class."""
    generator = np.random.default_rng(0)
    grid = np.indices((size,) * 3).astype(np.float32) / size
    label = np.zeros((size,) * 3, dtype=np.uint8)
    for value in range(1, classes + 1):
        centre, radii = generator.uniform(0.25, 0.75, 3), generator.uniform(0.12, 0.3, 3)
        label[sum(((grid[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3)) < 1] = value
    return label


def distances(label: np.ndarray, transform: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Distance in voxels of each voxel to the nearest one of another class."""
    result = np.zeros(label.shape, dtype=np.float32)
    for value in np.unique(label):
        region = label == value
        result[region] = transform(region)[region]
    return result


def loop_sampling(weight: Tensor, label: Tensor, per_class: int) -> PixelSample:
    batches, voxels, labels = [], [], []
    for image in range(label.shape[0]):
        values, rates = label[image].flatten(), weight[image].flatten()
        for value in values.unique():
            candidates = [index for index, found in enumerate((values == value).tolist()) if found]
            chosen = torch.multinomial(rates[candidates], min(per_class, len(candidates)))
            for index in chosen.tolist():
                batches.append(image)
                voxels.append(candidates[index])
                labels.append(int(value))
    return PixelSample(torch.tensor(batches), torch.tensor(voxels), torch.tensor(labels))


def loop_contrast(
    anchors: Tensor, labels: Tensor, partners: Tensor, partner_labels: Tensor, temperature: float
) -> Tensor:
    """MixCL Eq 6 per anchor, one anchor after the other."""
    terms = []
    for anchor, label in zip(anchors, labels.tolist(), strict=True):
        if label == 0:
            continue
        exponentials = (functional.cosine_similarity(anchor[None], partners) / temperature).exp()
        positive = partner_labels == label
        if positive.any():
            terms.append(-(exponentials[positive].sum() / exponentials.sum()).log())
    return torch.stack(terms).mean()


def label_rows(rounds: int, per_class: int = 100, classes: int = 5, channels: int = 64, size: int = 48) -> Rows:
    """Drawing, the loss alone, and everything from the weight maps to the gradients of both feature maps."""
    generator = torch.Generator().manual_seed(0)
    label = torch.from_numpy(organs(size, classes))[None, None]
    labels = (label, label.flip(2))
    weights = [
        boundary_weight(torch.from_numpy(distances(part[0, 0].numpy(), scipy_distance))[None, None]) for part in labels
    ]
    features = [torch.randn(1, channels, size, size, size, generator=generator).requires_grad_() for _ in labels]
    loss = LabelContrastLoss()

    def contrast(vectors: list[Tensor], samples: list[PixelSample]) -> Tensor:
        groups = [torch.zeros_like(sample.label) for sample in samples]
        return loss(vectors[0], samples[0].label, groups[0], vectors[1], samples[1].label, groups[1])

    def plain_contrast(vectors: list[Tensor], samples: list[PixelSample]) -> Tensor:
        return loop_contrast(vectors[0], samples[0].label, vectors[1], samples[1].label, loss.temperature)

    def draw() -> list[PixelSample]:
        return [
            sample_pixels(weight, part, per_class=per_class, generators=[torch_generator(0, 0, index, "pixels")])
            for index, (weight, part) in enumerate(zip(weights, labels, strict=True))
        ]

    def plain_draw() -> list[PixelSample]:
        return [loop_sampling(weight, part, per_class) for weight, part in zip(weights, labels, strict=True)]

    def whole(samples: list[PixelSample]) -> tuple[Tensor, ...]:
        value = contrast([take_pixels(f, s) for f, s in zip(features, samples, strict=True)], samples)
        return value.detach(), *torch.autograd.grad(value, features)

    def plain_whole(samples: list[PixelSample]) -> tuple[Tensor, ...]:
        vectors = [f.flatten(2)[s.batch, :, s.voxel] for f, s in zip(features, samples, strict=True)]
        value = plain_contrast(vectors, samples)
        return value.detach(), *torch.autograd.grad(value, features)

    def short(samples: list[PixelSample], value: Callable[[list[Tensor], list[PixelSample]], Tensor]) -> object:
        taken = [take_pixels(f.detach(), s).requires_grad_() for f, s in zip(features, samples, strict=True)]
        return torch.autograd.grad(value(taken, samples), taken)

    samples = draw()
    vectors = [take_pixels(f, s).detach().requires_grad_() for f, s in zip(features, samples, strict=True)]
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        f"drawing r = {per_class} of {classes + 1} classes, {size}^3": (plain_draw, draw),
        f"label loss, {len(vectors[0])} anchors, forward + backward": (
            lambda: torch.autograd.grad(plain_contrast(vectors, samples), vectors),
            lambda: torch.autograd.grad(contrast(vectors, samples), vectors),
        ),
        "drawing, gather, label loss, backward to the vectors": (
            lambda: short(plain_draw(), plain_contrast),
            lambda: short(draw(), contrast),
        ),
        f"drawing, gather, label loss, backward into {channels} ch {size}^3": (
            lambda: plain_whole(plain_draw()),
            lambda: whole(draw()),
        ),
    }
    results = zip(whole(samples), plain_whole(samples), strict=True)
    difference = max(((mine - theirs).norm() / theirs.norm()).item() for mine, theirs in results)
    # part of every backward into the maps, and bound by memory
    zeroing = compare({"zeros": lambda: [torch.zeros_like(feature) for feature in features]}, rounds=rounds)["zeros"]
    for what, (plain, ours) in pairs.items():
        seconds = compare({"loop": plain, "ours": ours}, rounds=rounds)
        yield [
            what,
            seconds_text(seconds["loop"]),
            seconds_text(seconds["ours"]),
            spread_text(ratio(seconds["loop"], seconds["ours"])),
            "by distribution (tests)" if plain is plain_draw else agreement(difference, 1e-4, "loss, gradient"),
            f"two patches, a plain loop; zeroing both maps alone: {seconds_text(zeroing)}",
        ]


def distance_row(rounds: int, size: int = 160, patch: int = 96, patches: int = 20) -> list[str]:
    """One map per volume and crops of it, against MONAI's transform on each of the crops."""
    from monai.transforms.utils import distance_transform_edt as monai_distance

    label = organs(size, 5)
    generator = np.random.default_rng(0)
    starts = generator.integers(0, size - patch + 1, (patches, 3))
    boxes = [tuple(slice(begin, begin + patch) for begin in start) for start in starts]

    def by_edt(region: np.ndarray) -> np.ndarray:
        return fast_distance(region, black_border=False, parallel=0)

    transform = scipy_distance if fast_distance is None else by_edt
    by_monai: Callable[[np.ndarray], np.ndarray] = lambda region: monai_distance(region[None])[0]  # noqa: E731

    def per_volume() -> list[np.ndarray]:
        volume = distances(label, transform).astype(np.float16)
        return [volume[box].astype(np.float32) for box in boxes]

    def per_patch() -> list[np.ndarray]:
        return [distances(label[box], by_monai) for box in boxes]

    seconds = compare({"patch": per_patch, "volume": per_volume}, rounds=rounds, warmup=0)
    whole = distances(label, by_monai)
    difference = np.abs(distances(label, transform) - whole).max()
    truncated = np.mean([np.mean(np.abs(distances(label[box], by_monai) - whole[box]) > 1e-3) for box in boxes[:3]])
    return [
        f"distance map, {size}^3 volume, {patches} patches of {patch}^3",
        seconds_text(seconds["patch"]),
        seconds_text(seconds["volume"]),
        spread_text(ratio(seconds["patch"], seconds["volume"])),
        agreement(float(difference), 1e-3, "voxels"),
        f"{'scipy' if fast_distance is None else 'edt'}; per patch wrong in {100 * truncated:.0f} % of voxels (border)",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, in alternating order")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch (all processors by default)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    title = (
        f"Losses of MixCL, {torch.get_num_threads()} threads, {options.rounds} rounds, median (min-max). {machine()}"
    )
    shapes = ((16, 96, 2), (64, 48, 2), (32, 48, 2), (64, 24, 2))
    lines: Rows = itertools.chain(
        (identity_row(*shape, options.rounds) for shape in shapes),
        label_rows(options.rounds),
        (distance_row(options.rounds) for _ in range(1)),
    )
    rows = []
    for row in lines:
        rows.append(row)
        print(f"{row[0]}: {row[3]}", flush=True)
    print_table(title, ["what", "MONAI or plain loop", "mtmed", "ratio", "agreement", "notes"], rows)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

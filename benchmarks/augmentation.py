"""Crop, warp and change intensity of a training sample: mtmed against MONAI, TorchIO and batchgeneratorsv2.

One torch thread, as in a loader worker. Run ``python benchmarks/augmentation.py`` (minutes) or with ``--quick``.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import monai.transforms as mt
import nibabel as nib
import numpy as np
import torch
from monai_elastic import SeededElastic
from scipy.ndimage import gaussian_filter, map_coordinates
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text

from mtmed.data.case import Case
from mtmed.data.volume_store import VolumeStore
from mtmed.randomness import random_generator
from mtmed.transforms import (
    Affine,
    Elastic,
    Gamma,
    GaussianNoise,
    GaussianSmooth,
    IntensityShift,
    SpatialAugmentation,
    ViewMaker,
)
from mtmed.transforms.elastic import add_displacement
from mtmed.transforms.reading import LoadVolumed
from mtmed.transforms.sampling import fill_sampling_grid, sample_linear, sample_nearest

PATCH = (96, 96, 96)
ROTATION, SCALE, SHIFT = np.deg2rad(10.0), 0.1, 5.0
ELASTIC = {"sigma_range": (5, 8), "magnitude_range": (50, 150)}
AFFINE = {"rotate_range": (ROTATION,) * 3, "scale_range": (SCALE,) * 3, "translate_range": (SHIFT,) * 3}
Sampler = Callable[[int], object]


def synthetic_ct(shape: tuple[int, int, int] = (154, 154, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Blobs of five organs in a body with noise; image scaled to [0, 1], label 0 to 5."""
    generator = np.random.default_rng(0)
    fields = [gaussian_filter(generator.standard_normal(shape), 10) for _ in range(5)]
    label = np.zeros(shape, np.uint8)
    for value, field in enumerate(fields, start=1):
        label[field > np.quantile(field, 0.93)] = value
    image = 0.4 + 0.08 * label + 0.05 * generator.standard_normal(shape)
    return np.clip(image, 0, 1).astype(np.float32), label


def our_affine(probability: float) -> Affine:
    return Affine(
        probability=probability,
        rotate_degrees=float(np.rad2deg(ROTATION)),
        scale_range=(1 - SCALE, 1 + SCALE),
        translate_range=SHIFT,
    )


def ours(image: np.ndarray, label: np.ndarray, folder: Path) -> Sampler:
    for name, data in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(data, np.diag([1.5, 1.5, 2.0, 1.0])), folder / f"{name}.nii")
    case = Case("synthetic", (str(folder / "image.nii"),), str(folder / "label.nii"), "synthetic", "synthetic")
    volume = VolumeStore(folder / "store", transforms=[LoadVolumed(["image", "label"])]).build([case])[0]
    views = ViewMaker(
        views={"patch": "patch"},
        geometry=SpatialAugmentation([our_affine(0.5), Elastic(probability=0.5)]),
        intensity=[
            IntensityShift(probability=0.2),
            Gamma(probability=0.2),
            GaussianSmooth(probability=0.2),
            GaussianNoise(probability=0.2),
        ],
    )

    def sample(step: int) -> object:
        generator = random_generator(0, step, 0, "crop")
        table = volume.coordinates(int(generator.integers(6))) if generator.random() < 0.5 else volume.foreground
        centre = table[generator.integers(len(table))]
        start = [int(np.clip(c - n // 2, 0, s - n)) for c, n, s in zip(centre, PATCH, volume.shape, strict=True)]
        crop = {name: torch.from_numpy(np.asarray(part))[None] for name, part in volume.crop(start, PATCH).items()}
        return views({"patch": crop}, seed=0, step=step, positions=[0])

    return sample


def stock_monai(image: np.ndarray, label: np.ndarray) -> Sampler:
    keys, modes = ["image", "label"], ("bilinear", "nearest")
    chain = mt.Compose(
        [
            mt.RandCropByPosNegLabeld(keys, "label", PATCH, pos=1, neg=1, num_samples=1),
            mt.RandAffined(keys, prob=0.5, mode=modes, padding_mode="border", **AFFINE),
            mt.Rand3DElasticd(keys, prob=0.5, mode=modes, padding_mode="border", **ELASTIC),
            mt.RandShiftIntensityd("image", prob=0.2, offsets=0.1),
            mt.RandAdjustContrastd("image", prob=0.2, gamma=(0.7, 1.5)),
            mt.RandGaussianSmoothd("image", (0.25, 1.5), (0.25, 1.5), (0.25, 1.5), prob=0.2),
            mt.RandGaussianNoised("image", prob=0.2, std=0.1),
        ]
    ).set_random_state(0)
    cached = {"image": torch.from_numpy(image)[None], "label": torch.from_numpy(label)[None]}
    return lambda step: chain(cached)


def stock_torchio(image: np.ndarray, label: np.ndarray) -> Sampler:
    import torchio as tio

    subject = tio.Subject(
        image=tio.ScalarImage(tensor=torch.from_numpy(image)[None]),
        label=tio.LabelMap(tensor=torch.from_numpy(label)[None]),
    )
    sampler = tio.LabelSampler(PATCH, "label")
    chain = tio.Compose(
        [
            tio.RandomAffine(scales=SCALE, degrees=10, translation=SHIFT, p=0.5),
            tio.RandomElasticDeformation(num_control_points=11, max_displacement=4.6, p=0.5),
            tio.RandomGamma(p=0.2),
            tio.RandomBlur(std=(0.25, 1.5), p=0.2),
            tio.RandomNoise(std=(0, 0.1), p=0.2),
        ]
    )
    return lambda step: chain(next(sampler(subject, 1)))


def stock_batchgenerators(image: np.ndarray, label: np.ndarray) -> Sampler:
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    chain = ComposeTransforms(
        [
            SpatialTransform(
                PATCH,
                patch_center_dist_from_border=0,
                random_crop=False,
                p_elastic_deform=0.5,
                elastic_deform_scale=(0.05, 0.08),
                elastic_deform_magnitude=(0.05, 0.1),
                p_rotation=0.5,
                rotation=(-ROTATION, ROTATION),
                p_scaling=0.5,
                scaling=(1 - SCALE, 1 + SCALE),
                bg_style_seg_sampling=False,
                mode_seg="nearest",
            ),
            RandomTransform(MultiplicativeBrightnessTransform((0.9, 1.1), synchronize_channels=False), 0.2),
            RandomTransform(GammaTransform((0.7, 1.5), 0, False, 1, 1), 0.2),
            RandomTransform(GaussianBlurTransform((0.25, 1.5), False, False), 0.2),
            RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), 0.2),
        ]
    )
    whole, parts, generator = torch.from_numpy(image)[None], torch.from_numpy(label)[None], np.random.default_rng(0)

    def sample(step: int) -> object:
        where = [slice(s, s + 96) for s in (int(generator.integers(n - 95)) for n in image.shape)]
        return chain(image=whole[:, *where].clone(), segmentation=parts[:, *where].to(torch.int16))

    return sample


def whole_sample(image: np.ndarray, label: np.ndarray, samples: int, rounds: int) -> None:
    """Table of the whole sample; firing is random, so a block of samples is timed at once."""
    with tempfile.TemporaryDirectory() as folder:
        makers: Mapping[str, Callable[[], Sampler]] = {
            "mtmed": lambda: ours(image, label, Path(folder)),
            "MONAI": lambda: stock_monai(image, label),
            "TorchIO": lambda: stock_torchio(image, label),
            "batchgeneratorsv2": lambda: stock_batchgenerators(image, label),
        }
        variants: dict[str, Callable[[], object]] = {}
        for name, make in makers.items():
            try:
                sampler = make()
            except ImportError as error:
                print(f"{name} is left out: {error}")
                continue
            counter = iter(range(10**9))
            # the same steps in every round would hide the spread of the firing
            variants[name] = lambda sampler=sampler, counter=counter: [sampler(next(counter)) for _ in range(samples)]
        seconds = compare(variants, rounds=rounds)
    rows = [
        [name, seconds_text([value / samples for value in times]), spread_text(ratio(times, seconds["mtmed"]))]
        for name, times in seconds.items()
    ]
    title = f"Whole sample: crop {PATCH}, affine and elastic p 0.5, 4 intensity changes p 0.2, {samples} per round"
    print_table(title, ["variant", "per sample", "mtmed is faster by"], rows)


def spatial_patch(image: torch.Tensor, label: torch.Tensor, rounds: int) -> None:
    """Affine and elastic, both firing."""
    keys, modes = ["image", "label"], ("bilinear", "nearest")
    stock = mt.Compose(
        [mt.RandAffined(keys, prob=1, mode=modes, **AFFINE), mt.Rand3DElasticd(keys, prob=1, mode=modes, **ELASTIC)]
    )
    once = mt.Rand3DElasticd(keys, prob=1, mode=modes, **ELASTIC, **AFFINE)
    spatial = SpatialAugmentation([our_affine(1), Elastic(probability=1)])
    batch, data = {"image": image[None], "label": label[None]}, {"image": image, "label": label}
    seconds = compare(
        {
            "mtmed": lambda: spatial(batch, seed=0, step=0, positions=[0]),
            "MONAI RandAffined + Rand3DElasticd": lambda: stock(data),
            "MONAI Rand3DElasticd with affine": lambda: once(data),
        },
        rounds=rounds,
    )
    geometry = spatial.parameters_for(image.shape[1:], seed=0, step=0, positions=[0])[0]
    assert geometry is not None
    grid = torch.empty(1, 3, *image.shape[1:])
    fill_sampling_grid(grid[0], geometry.content, geometry.controls)
    where = np.stack([(grid[0, 2 - axis].double().numpy() + 1) * size / 2 - 0.5 for axis, size in enumerate(PATCH)])
    expected = map_coordinates(image[0].double().numpy(), where, order=1, mode="nearest")
    error = float(np.abs(sample_linear(image[None], grid, "border")[0, 0].numpy() - expected).max())
    nearest = torch.nn.functional.grid_sample(
        label[None].float(), grid.movedim(1, -1), mode="nearest", padding_mode="border", align_corners=False
    )
    apart = float((sample_nearest(label[None], grid, "border").float() != nearest).float().mean())
    cell = f"{agreement(error, 1e-5, 'scipy float64')}; {agreement(apart, 1e-5, 'labels')}"
    rows = [
        [name, seconds_text(times), spread_text(ratio(times, seconds["mtmed"])), cell if name == "mtmed" else ""]
        for name, times in seconds.items()
    ]
    print_table(
        "Affine and elastic on image and label, p 1", ["variant", "time", "mtmed is faster by", "agreement"], rows
    )


def seeded(image: torch.Tensor, label: torch.Tensor, rounds: int) -> None:
    """MONAI's own field from the same seed."""
    data = {"image": image, "label": label}
    stock = mt.Rand3DElasticd(["image", "label"], prob=1, mode=("bilinear", "nearest"), **ELASTIC, **AFFINE)
    stock.set_random_state(1)
    same = SeededElastic(**ELASTIC, **AFFINE, seed=1)
    expected, warped = stock(data), same(data)
    error = float((torch.as_tensor(expected["image"]) - warped["image"]).abs().max())
    apart = int((torch.as_tensor(expected["label"]) != warped["label"]).sum())
    seconds = compare({"same seed": lambda: same(data), "MONAI Rand3DElasticd": lambda: stock(data)}, rounds=rounds)
    cell = f"{agreement(error, 1e-4, 'image')}; {apart} of {label.numel()} labels differ"
    rows = [
        [
            name,
            seconds_text(times),
            spread_text(ratio(times, seconds["same seed"])),
            cell if name == "same seed" else "",
        ]
        for name, times in seconds.items()
    ]
    print_table(
        "Same seed as MONAI, matrices and one grid", ["variant", "time", "same seed is faster by", "agreement"], rows
    )


def fields(samples: int) -> None:
    """Strength and correlation length of both random fields."""
    rows = []
    drawn: dict[str, list[np.ndarray]] = {"mtmed Elastic": [], "MONAI sigma 5-8, magnitude 50-150": []}
    for seed in range(samples):
        generator = np.random.default_rng(seed)
        control = Elastic(probability=1).draw(generator, PATCH)
        grid = torch.zeros(3, *PATCH)
        add_displacement(grid, control, np.eye(3))  # type: ignore[arg-type]
        drawn["mtmed Elastic"].append(grid[0].numpy())
        noise = gaussian_filter(generator.uniform(-1, 1, PATCH), generator.uniform(5, 8), truncate=3, mode="constant")
        drawn["MONAI sigma 5-8, magnitude 50-150"].append(noise * generator.uniform(50, 150))
    for name, values in drawn.items():
        deviations = [value.std() for value in values]
        correlation = [
            np.mean([np.corrcoef(value[lag:].ravel(), value[:-lag].ravel())[0, 1] for value in values])
            for lag in (4, 8, 16, 24)
        ]
        spread = f"{np.mean(deviations):.2f} ({min(deviations):.2f}-{max(deviations):.2f})"
        largest = f"{np.mean([np.abs(value).max() for value in values]):.1f}"
        rows.append([name, spread, largest, " ".join(f"{value:.2f}" for value in correlation)])
    header = ["field", "standard deviation, voxels", "largest, voxels", "correlation at 4, 8, 16, 24 voxels"]
    print_table(f"Displacement along one axis, {samples} fields", header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples and rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(machine())
    image, label = synthetic_ct()
    box = (slice(None), *(slice(20, 20 + size) for size in PATCH))
    patch, patch_label = torch.from_numpy(image)[None][box].clone(), torch.from_numpy(label)[None][box].clone()
    spatial_patch(patch, patch_label, 3 if quick else 7)
    seeded(patch, patch_label, 3 if quick else 7)
    fields(4 if quick else 16)
    whole_sample(image, label, 8 if quick else 20, 3 if quick else 5)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

"""2D slices, from PNG files and a table of run lengths to batches of 32, against the stock MONAI chain.

Both get the same files (synthetic scans in the layout of UW-Madison, 16-bit PNG of 266 x 266 and 360 x 310 pixels,
three organs that overlap) and give images from 0 to 1 and a mask per organ, 224 x 224. Stock is LoadImaged, run
lengths decoded in a loop over the runs, ScaleIntensityd and Resized, in MONAI's Dataset or CacheDataset and
DataLoader. Uncached is the preparation alone; the store prepares whole scans, so its first pass is that, writing
them, and one pass of batches. Goals, exit status 1 if one is missed: a batch from the store 20 times faster, the
preparation 1.5 times. Run as ``python benchmarks/slice_path.py`` from the repository root; ``--quick`` takes few and
small slices, which shows that it works but not the ratios.
"""

import argparse
import csv
import itertools
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset, list_data_collate
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    Resized,
    ScaleIntensityd,
)
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text

from mtmed.data import Case, CropDataset, EverySlice, VolumeStore, crop_loader
from mtmed.organ_masks import packed_names, unpack_masks
from mtmed.transforms import GroupLabelsd, ImageFactsd, LoadVolumed, ScaleSlicesd, encode_run_lengths

KEYS = ["image", "label"]
ORGANS = ("large_bowel", "small_bowel", "stomach")
BATCH, SIDE = 32, 224
GOALS: dict[str, float | None] = {
    "uncached, per slice": 1.5,
    "first pass with the store, per slice": None,
    "batch from the store": 20.0,
}


def paint_slice(shape: tuple[int, int], generator: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """A body that is smooth but for noise, of which a PNG takes about as many bytes as of a real slice, and organs."""
    rows, columns = shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    coarse = ndimage.zoom(generator.normal(600, 200, (8, 8)), (rows / 8, columns / 8), order=1)
    image = np.where(body, coarse + generator.normal(0, 25, shape), np.abs(generator.normal(0, 4, shape)))
    masks = []
    for _ in ORGANS:
        centre, radius = generator.uniform(-0.3, 0.3, 2), generator.uniform(0.1, 0.35, 2)
        wave = 0.3 * np.sin(9 * x + generator.uniform(0, 6)) * np.cos(7 * y)
        masks.append(((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 + wave < 1)
    return np.clip(image, 0, None).astype(np.uint16), np.stack(masks)


def write_cohort(folder: Path, scans: int, slices: int, shapes: Sequence[tuple[int, int]]) -> list[Case]:
    generator = np.random.default_rng(0)
    cases, rows = [], []
    for number in range(scans):
        name, (height, width) = f"case{number + 1}_day0", shapes[number % len(shapes)]
        images = folder / f"case{number + 1}" / name / "scans"
        images.mkdir(parents=True)
        for index in range(slices):
            image, masks = paint_slice((height, width), generator)
            Image.fromarray(image).save(images / f"slice_{index + 1:04}_{width}_{height}_1.50_1.50.png")
            empty = index < slices // 4 or index >= slices - slices // 4  # as about half of the real slices
            for organ, mask in zip(ORGANS, masks, strict=True):
                rows.append((f"{name}_slice_{index + 1:04}", organ, "" if empty else encode_run_lengths(mask)))
        cases.append(Case(name, (str(images),), str(folder / "train.csv"), f"case{number + 1}", "synthetic"))
    with (folder / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "class", "segmentation"), *rows])
    return cases


def store_chain() -> list[Any]:
    """That of the bundle `gi_tract`."""
    return [
        LoadVolumed(KEYS, keep_integers=True),
        Orientationd(KEYS, axcodes="SPL", labels=None),
        ImageFactsd(),
        GroupLabelsd(values={"synthetic": {value: value for value in packed_names(ORGANS)}}),
        ScaleSlicesd(),
        Resized(KEYS, (-1, SIDE, SIDE), mode=["trilinear", "nearest-exact"]),
    ]


def decode_masks(data: dict[str, Any]) -> dict[str, Any]:
    """Run lengths as in the notebooks on this data set; columns first, as MONAI reads a PNG."""
    columns, rows = data["image"].shape[1:]
    masks = np.zeros((len(ORGANS), rows * columns), np.uint8)
    for mask, text in zip(masks, data["label"], strict=True):
        numbers = np.asarray(text.split(), dtype=int)
        starts = numbers[0::2] - 1
        ends = starts + numbers[1::2]
        for start, end in zip(starts, ends, strict=True):
            mask[start:end] = 1
    label = masks.reshape(len(ORGANS), rows, columns).swapaxes(1, 2)
    return {**data, "label": torch.from_numpy(np.ascontiguousarray(label))}


def stock_chain() -> Compose:
    return Compose(
        [
            LoadImaged("image", reader="PILReader"),
            EnsureChannelFirstd("image"),
            decode_masks,
            ScaleIntensityd("image"),
            Resized(KEYS, (SIDE, SIDE), mode=["bilinear", "nearest-exact"]),
        ]
    )


def stock_rows(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """One row per slice, in the order of scans and slices."""
    with Path(str(cases[0].label)).open(newline="") as stream:
        masks = {(row["id"], row["class"]): row["segmentation"] for row in csv.DictReader(stream)}
    rows = []
    for case in cases:
        for path in sorted(Path(str(case.image[0])).iterdir()):
            name = f"{case.id}_{path.name[:10]}"
            rows.append({"image": str(path), "label": [masks[name, organ] for organ in ORGANS]})
    return rows


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def our_batches(cases: Sequence[Case], folder: Path) -> Iterator[dict[str, Any]]:
    """Prepare what is not in the store yet; batches with a mask per organ, unpacked."""
    volumes = VolumeStore(folder, transforms=store_chain()).build(cases, workers=1)
    data = CropDataset(volumes, EverySlice(), seed=0, global_batch_size=BATCH)
    for batch in crop_loader(data, batch_size=BATCH):
        yield {**batch, "label": unpack_masks(batch["label"], len(ORGANS), axis=1)}


def largest_difference(batch: dict[str, Any], rows: Sequence[dict[str, Any]], slices: int) -> tuple[float, float]:
    """Of images, and of masks, to what the stock chain makes of the same slices."""
    places = (slices * batch["volume"] + batch["slice"]).tolist()
    chain = stock_chain()
    stock = list_data_collate([chain(rows[place]) for place in places])
    image, label = (stock[key].as_tensor().transpose(2, 3) for key in KEYS)
    return float((image - batch["image"]).abs().max()), float((label - batch["label"]).abs().max())


def measure(scans: int, slices: int, shapes: Sequence[tuple[int, int]], rounds: int) -> None:
    torch.set_num_threads(1)  # as in a loader worker
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cohort(folder / "train", scans, slices, shapes)
        rows = stock_rows(cases)
        passes = -(-len(rows) // BATCH)
        stock = DataLoader(Dataset(rows, stock_chain()), batch_size=BATCH, shuffle=True, num_workers=0)
        stores = (folder / f"store{number}" for number in itertools.count())
        first = compare(
            {
                "stock": lambda: [None for _ in stock],
                "ours": lambda: [None for _ in itertools.islice(our_batches(cases, next(stores)), passes)],
            },
            rounds=rounds,
        )
        chain = Compose(store_chain())
        scans_of = [{"image": list(c.image), "label": c.label, "case": c.key} for c in cases]
        alone = compare(
            {
                "stock": lambda: [None for _ in stock],
                "ours": lambda: [None for scan in scans_of if chain(scan) is None],
            },
            rounds=rounds,
        )
        ours = our_batches(cases, folder / "store")
        image, label = np.max([largest_difference(next(ours), rows, slices) for _ in range(3)], axis=0)
        cached = CacheDataset(rows, stock_chain(), num_workers=1, progress=False)
        from_memory = endless(DataLoader(cached, batch_size=BATCH, shuffle=True, num_workers=0))
        from_files = endless(stock)
        later = compare(
            {"stock": lambda: next(from_files), "cached": lambda: next(from_memory), "ours": lambda: next(ours)},
            rounds=5 * rounds,
            warmup=2,
        )
    per_slice, prepared = (
        {side: [value / len(rows) for value in seconds] for side, seconds in found.items()} for found in (first, alone)
    )
    same = agreement(max(float(image), float(label)), 1e-4, "image, masks")
    table = []
    for label_of_row, seconds in (
        ("uncached, per slice", prepared),
        ("first pass with the store, per slice", per_slice),
        ("batch from the store", later),
    ):
        gain, goal = ratio(seconds["stock"], seconds["ours"]), GOALS[label_of_row]
        share = "-" if goal is None else agreement(ratio(seconds["ours"], seconds["stock"])[0], 1 / goal, "time share")
        table.append(
            (
                label_of_row,
                seconds_text(seconds["stock"]),
                seconds_text(seconds["ours"]),
                spread_text(gain),
                same,
                share,
            )
        )
    gain = spread_text(ratio(later["cached"], later["ours"]))
    table.append(("against CacheDataset", seconds_text(later["cached"]), seconds_text(later["ours"]), gain, same, "-"))
    title = f"{len(rows)} slices of {len(cases)} scans, batches of {BATCH} of {SIDE} x {SIDE}, 1 thread; {machine()}"
    print_table(title, ["stage", "stock", "slices of the store", "ratio", "agreement", "goal"], table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and small slices, few rounds")
    if parser.parse_args().quick:
        measure(2, 32, [(80, 96)], 1)
    else:
        measure(4, 64, [(266, 266), (310, 360)], 3)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

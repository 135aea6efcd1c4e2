"""Mutated files of the formats that mtmed reads, such that checksums of containers hold where they would hide the rest.

What is inside gzip, the chunks of a PNG, the records of a zip archive and the digest of released weights is mutated
before it is compressed, summed or signed, because the readers refuse nearly all other damage at once.
"""

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
import torch
from bounded_child import Sample
from mutations import mutate_bytes, mutate_json_text, mutate_value
from PIL import Image
from pydicom import dcmread
from series_folder import compress, write_series
from x_ray_file import write_x_ray

from mtmed.data import load_manifest
from mtmed.data.layout import match_layout, read_layout
from mtmed.errors import InputError
from mtmed.networks import build_network, load_network, load_weights, save_network, save_released
from mtmed.transforms.nifti import NiftiVolume
from mtmed.transforms.reading import read_label, read_volume

__all__ = ["samples"]

_SLICE = "slice_{:04d}_24_20_1.50_1.50.png"
_GDCM = "1.2.826.0.1.3680043.2.1125"  # what it makes up identifiers with
_NIFTI_FIELDS = (0, *range(40, 56, 2), 70, 72, *range(76, 108, 4), 108, 112, 116, 123, 252, 254, *range(256, 348, 4))
_PNG_FIELDS = (8, 11, 12, 16, 19, 20, 23, 24, 25, 26, 27, 28, 33, 36, 37, 41, 42, 43)


def samples(folder: Path) -> list[Sample]:
    """All kinds of files, made from whole ones that are written into a folder."""
    return [
        Sample("NIfTI", _nifti(folder), lambda path: _use(read_volume(path))),
        Sample("PNG", _png(folder), _read_png),
        Sample("DICOM", _dicom(folder), lambda path: _use(read_volume(path))),
        Sample("JSON", _json(folder), _read_json),
        Sample("CSV", _csv(folder), _read_table(folder)),
        Sample("weights", _weights(folder), _read_weights),
    ]


def _use(volume: NiftiVolume) -> None:
    """Touch each voxel."""
    with np.errstate(all="ignore"):
        assert np.isnan(volume.data.astype(np.float64)).sum() <= volume.data.size
    assert np.isfinite(volume.affine).all()
    assert volume.data.ndim in (2, 3, 4)


def _nifti(folder: Path) -> Callable[[int, Path], Path]:
    voxels = np.random.default_rng(1).normal(0, 300, (12, 10, 8))
    wholes = []
    for number, kind in enumerate((np.int16, np.uint8, np.float32, np.float64, np.int16)):
        shape = voxels[..., None] if number == 4 else voxels
        image = (nib.Nifti2Image if number == 3 else nib.Nifti1Image)(shape.astype(kind), np.diag([1.5, 1, 2, 1]))
        if number == 0:
            image.header.set_slope_inter(2.0, -1000.0)
        wholes.append(image.to_bytes())
    swapped = nib.Nifti1Image(voxels.astype(">i2"), np.eye(4), nib.Nifti1Header(endianness=">")).to_bytes()
    wholes.append(swapped)

    def write(number: int, place: Path) -> Path:
        random = Random(f"NIfTI {number}")
        raw = mutate_bytes(random.choice(wholes), random.choice(wholes), random, fields=_NIFTI_FIELDS)
        if random.random() < 0.5:
            (place / "scan.nii").write_bytes(raw)
            return place / "scan.nii"
        zipped = gzip.compress(raw, 1, mtime=0)
        if random.random() < 0.1:
            zipped = mutate_bytes(zipped, raw + b"\0", random)
        (place / "scan.nii.gz").write_bytes(zipped)
        return place / "scan.nii.gz"

    return write


def _png(folder: Path) -> Callable[[int, Path], Path]:
    random = np.random.default_rng(2)
    grey = random.integers(0, 255, (20, 24)).astype(np.uint8)
    colours = np.stack([grey, grey, 255 - grey], -1)
    turned = Image.Exif()
    turned[0x0112] = 1
    wholes = []
    for pixels, options in (
        (Image.fromarray(grey), {"exif": turned.tobytes()}),
        (Image.fromarray(grey.astype(np.uint16) * 200), {}),
        (Image.fromarray(colours), {"dpi": (72, 72)}),
        (Image.fromarray(np.dstack([colours, np.full_like(grey, 255)])), {}),
        (Image.fromarray(np.dstack([grey, np.full_like(grey, 255)])), {}),
        (Image.fromarray(grey > 100), {}),
        (Image.fromarray(colours).quantize(8), {}),
    ):
        stream = BytesIO()
        pixels.save(stream, "PNG", **options)
        wholes.append(stream.getvalue())
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    text = [(b"tEXt", b"comment\0a"), (b"zTXt", b"comment\0\0" + zlib.compress(b"a" * 1000)), (b"tRNS", b"\0\7")]
    for interlaced in (0, 1):
        header = (b"IHDR", struct.pack(">IIBBBBB", 24, 20, 8, 0, 0, 0, interlaced))
        wholes.append(_joined([header, *text, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]))

    def write(number: int, place: Path) -> Path:
        draw = Random(f"PNG {number}")
        raw = draw.choice(wholes)
        kind = draw.choice(("as it is", "chunks", "sums", "sums"))
        if kind == "chunks":  # what is inside one of them, the pixels uncompressed
            chunks = _chunks(raw)
            index = draw.randrange(len(chunks))
            name, content = chunks[index]
            inside = zlib.decompress(content) if name == b"IDAT" else content
            inside = mutate_bytes(inside + b"\0", raw, draw)
            chunks[index] = (name, zlib.compress(inside) if name == b"IDAT" else inside)
            raw = _joined(chunks)
        else:
            raw = mutate_bytes(raw, draw.choice(wholes), draw, fields=_PNG_FIELDS)
        path = place / draw.choice(("image.png", "label.png", _SLICE.format(1)))
        path.write_bytes(_summed(raw) if kind == "sums" else raw)
        return path

    return write


def _chunks(raw: bytes) -> list[tuple[bytes, bytes]]:
    chunks, start = [], 8
    while start < len(raw):
        length, name = struct.unpack_from(">I4s", raw, start)
        chunks.append((name, raw[start + 8 : start + 8 + length]))
        start += 12 + length
    return chunks


def _joined(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _summed(raw: bytes) -> bytes:
    """The same with the right checksum behind each chunk that its own length leads to."""
    summed, start = bytearray(raw), 8
    while start + 12 <= len(raw):
        end = start + 8 + int.from_bytes(raw[start : start + 4], "big")
        if end + 4 > len(raw):
            break
        summed[end : end + 4] = struct.pack(">I", zlib.crc32(raw[start + 4 : end]))
        start = end + 4
    return bytes(summed)


def _read_png(path: Path) -> None:
    _use(read_label(path, None) if path.name == "label.png" else read_volume(path))


def _dicom(folder: Path) -> Callable[[int, Path], Path]:
    pixels = np.random.default_rng(3).integers(0, 200, (20, 24)).astype(np.uint8)
    kinds = (pixels, pixels * np.uint16(9), np.dstack([pixels] * 3))
    rays = [write_x_ray(folder / "rays" / f"{number}.dcm", kind) for number, kind in enumerate(kinds)]
    for name in ("JPEG", "JPEG2000"):
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(name)
        rays.append(folder / "rays" / f"{name}.dcm")
        writer.SetFileName(str(rays[-1]))
        writer.Execute(SimpleITK.ReadImage(str(rays[0])))
    x_rays = [_the_same(path) for path in rays]
    x_rays.append(_the_same(compress(rays[1])))
    plain = write_series(folder / "series", np.stack([pixels, pixels, pixels]).astype(np.int16), slope=2.0)
    slices = [path.read_bytes() for path in sorted(plain.iterdir())]
    packed_slices = [_the_same(compress(path)) for path in sorted(plain.iterdir())]

    def write(number: int, place: Path) -> Path:
        random = Random(f"DICOM {number}")
        if random.random() < 0.5:
            (place / "ray.dcm").write_bytes(mutate_bytes(random.choice(x_rays), random.choice(x_rays), random))
            return place / "ray.dcm"
        series = place / "series"
        series.mkdir()
        whole = list(random.choice((slices, packed_slices)))
        index = random.randrange(len(whole))
        whole[index] = mutate_bytes(whole[index], random.choice(slices), random)
        for order, raw in enumerate(whole):
            (series / f"IM{order}.dcm").write_bytes(raw)
        return series

    return write


def _the_same(path: Path) -> bytes:
    """A file with the identifiers and the time that it has in every run."""
    file = dcmread(path)
    for element in (*file.file_meta, *file):
        if element.VR == "UI" and element.value.startswith(_GDCM):
            element.value = f"{_GDCM}.{element.tag.element}"
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"{_GDCM}.1"
    file.StudyTime = "120000"
    file.save_as(path)
    return path.read_bytes()


def _json(folder: Path) -> Callable[[int, Path], Path]:
    rows: list[dict[str, Any]] = [
        {"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz", "patient": f"p{n}", "visit": n, "fold": n % 2}
        for n in range(4)
    ]
    rows[0] |= {"metadata": {"age": 60.5}, "maps": {"tissue": "t.nii.gz"}, "slice": 3, "id": "first"}
    split = {"key": "patient", "shares": [70, 20, 10], "seed": 0}
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    parts = ("training", "validation", "test", "training")
    parted = [{**row, "part": part} for row, part in zip(rows, parts, strict=True)]
    whole = {"name": "Livers", "modality": {"0": "CT"}, "labels": labels, "training": rows, "test": ["a.nii.gz"]}
    manifests = [whole, {**whole, "training": parted, "split": split, "orientation": "RAS", "overlapping": True}]
    files = sorted((Path(__file__).parents[2] / "data_manifests").iterdir())
    layouts = [json.loads(file.read_text()) for file in files]
    others = [json.dumps(one).encode() for one in (*manifests, *layouts)]

    def write(number: int, place: Path) -> Path:
        random = Random(f"JSON {number}")
        is_layout = random.random() < 0.5
        path = place / ("layout.json" if is_layout else "dataset.json")
        value = random.choice(layouts if is_layout else manifests)
        path.write_bytes(mutate_json_text(value, random.choice(others), random))
        for name in ("imagesTr/liver_1.nii.gz", "labelsTr/liver_1.nii.gz", "images/0.nii.gz"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(b"none")
        return path

    return write


def _read_json(path: Path) -> None:
    if path.name == "layout.json":
        match_layout(read_layout(path), path.parent)
        return
    manifest = load_manifest(path)
    for case in (*manifest.cases, *manifest.test_cases):
        for file in case.files:  # the names are the mutant's
            with suppress(InputError):
                read_label(file, None)


def _csv(folder: Path) -> Callable[[int, Path], Path]:
    scan = folder / "case1_day1" / "scans"
    scan.mkdir(parents=True)
    for number in (1, 2, 3):
        Image.fromarray(np.zeros((20, 24), np.uint8)).save(scan / _SLICE.format(number))
    ids = [f"case1_day1_slice_{number:04d}" for number in (1, 2, 3)]
    masks = ["1 24 49 5", "", "480 1", "25 2 30 4 90 100", "nan", "1 480"]
    pairs = [(name, organ) for name in ids for organ in ("large_bowel", "stomach")]
    fields = [f"{name},{organ},{text}\n" for (name, organ), text in zip(pairs, masks, strict=True)]
    organs = ["id,class,segmentation\n", *fields]
    lungs = ["ImageId, EncodedPixels\n", "ray,5 10 14 3\n", "ray,100 20\n", "second,-1\n", "third, 0 480\n"]

    def write(number: int, place: Path) -> Path:
        random = Random(f"CSV {number}")
        table = random.choice((organs, lungs))
        raw = _mutated_table(table, random).encode(errors="surrogateescape")
        if random.random() < 0.25:
            raw = mutate_bytes(raw, "".join(random.choice((organs, lungs))).encode(), random)
        # another name for each, since tables are kept by name, size and time
        path = place / f"{'organs' if table is organs else 'lungs'}_{number}.csv"
        path.write_bytes(raw)
        return path

    return write


_FIELDS = (
    *("", "-1", "0", "1", "nan", "1 -1", "-5 3", "1 2 3", "1e5 2", "481 1", "480 2", "0 1", "1 0", "1 1 " * 5000),
    *("9" * 18 + " 1", "1 " + "9" * 18, "9" * 400, "1 " * 200_000, "x" * 140_000, "case1_day1_slice_" + "9" * 5000),
    *("٣ ٤", "1\u00a02", "1\t2", "1\x0b2", "1\u20282", "\0", "\x1b[2J", "é", "\udcff", "case1_day1_slice_٣", "a;b"),
    *('"a\nb"', '"', '"x', '"a\nb_slice_1"', '"1\n2"', "case1_day1_slice_1", "id", "class", "ImageId"),
)


def _mutated_table(lines: list[str], random: Random) -> str:
    rows = [line.rstrip("\n").split(",") for line in lines]
    for _ in range(random.choice((0, 1, 1, 1, 3))):
        row = random.choice(rows)
        row[random.randrange(len(row))] = random.choice(_FIELDS)
        kind = random.randrange(8)
        if kind == 0:
            rows.append(list(random.choice(rows)))
        elif kind == 1:
            row.append("1")
        elif kind == 2:
            rows.remove(row)
        elif kind == 3:
            rows += [[f"o{n}" if cell == "stomach" else cell for cell in rows[-1]] for n in range(10)] if rows else []
        if not rows:
            break
    line, comma = random.choice(("\n", "\n", "\r\n", "\r", "\n\n")), random.choice((*[","] * 9, ";"))
    return line.join(comma.join(row) for row in rows)


def _read_table(folder: Path) -> Callable[[Path], None]:
    affine = np.diag([-1.5, -1.5, 3.0, 1.0])
    scan = NiftiVolume(
        np.zeros((24, 20, 3), np.uint8), affine, (1.5, 1.5, 3.0), {}, str(folder / "case1_day1" / "scans")
    )
    ray = NiftiVolume(np.zeros((24, 20, 1), np.uint8), affine, (1.5, 1.5, 3.0), {}, "ray.png")

    def read(path: Path) -> None:
        _use(read_label(path, scan if path.name.startswith("organs") else ray))

    return read


def _weights(folder: Path) -> Callable[[int, Path], Path]:
    place = folder / "whole"
    place.mkdir()
    definition = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 1, "out_channels": 2, "base_channels": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network({**definition, "depth": 1})
    settings = {"labels": {"1": "liver"}, "spacing": [1.5, 1.5], "window": [-100, 400], "trained_on": ["0" * 64]}
    save_network(place / "model.pt", network, settings)
    content = load_weights(place / "model.pt")
    save_released(place / "model.safetensors", content)
    saved, released = (place / "model.pt").read_bytes(), (place / "model.safetensors").read_bytes()
    plain = {key: content[key] for key in ("network_def", "settings")}

    def write(number: int, folder: Path) -> Path:
        random = Random(f"weights {number}")
        path = folder / random.choice(("model.pt", "model.pt", "model.safetensors"))
        kind = random.choice(("bytes", "inside", "inside", "values", "values"))
        if kind == "values":
            changed = mutate_value(plain, random)
            whole = {**content, **changed} if isinstance(changed, dict) else {**content, "settings": changed}
            if random.random() < 0.2:
                whole["model"] = _other_tensors(content["model"], random)
            try:
                torch.save(whole, path) if path.suffix == ".pt" else save_released(path, whole)
                return path
            except (InputError, LookupError, TypeError, AttributeError, RecursionError, ValueError, RuntimeError):
                kind = "inside"  # what cannot be saved that way
        if path.suffix == ".pt":
            raw = mutate_bytes(saved, released, random) if kind == "bytes" else _rezipped(saved, released, random)
        else:
            raw = mutate_bytes(released, saved, random, fields=(0, 1, 2, 3, 4, 7))
            if kind == "inside":
                raw = _with_header(released, random)
        path.write_bytes(raw)
        return path

    return write


def _other_tensors(model: dict[str, torch.Tensor], random: Random) -> dict[str, Any]:
    name = random.choice(list(model))
    odd = random.choice((torch.zeros(1).expand(2**40), torch.zeros(0), torch.full((2,), torch.nan), 3, None, "a", [1]))
    return random.choice(({**model, name: odd}, {**model, "other\n": odd}, {}, {name: model[name]}))


def _rezipped(saved: bytes, other: bytes, random: Random) -> bytes:
    """The archive with one record mutated, most often the pickle, and all checksums right."""
    stream = BytesIO()
    with zipfile.ZipFile(BytesIO(saved)) as archive, zipfile.ZipFile(stream, "w") as changed:
        names = archive.namelist()
        chosen = next(n for n in names if n.endswith("data.pkl")) if random.random() < 0.8 else random.choice(names)
        for name in names:
            raw = archive.read(name)
            broken = mutate_bytes(raw, random.choice((raw, other)), random) if name == chosen and raw else raw
            changed.writestr(name, broken)
    return stream.getvalue()


def _with_header(released: bytes, random: Random) -> bytes:
    """Released weights with a mutated header whose length is right."""
    length = int.from_bytes(released[:8], "little")
    header = mutate_json_text(json.loads(released[8 : 8 + length]), released, random)
    return len(header).to_bytes(8, "little") + header + released[8 + length :]


def _read_weights(path: Path) -> None:
    load_weights(path)
    load_network(path)

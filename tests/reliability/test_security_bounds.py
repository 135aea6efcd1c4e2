"""Small files that claim or unpack to far more than they should: one line, little memory, no waiting."""

import gzip
import json
import re
import resource
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from mtmed.data.json_object import read_json_object
from mtmed.errors import InputError
from mtmed.networks import load_weights
from mtmed.transforms import inflation
from mtmed.transforms.csv_table import table_rows
from mtmed.transforms.dicom import read_dicom_image
from mtmed.transforms.nifti import read_nifti
from mtmed.transforms.png import read_png

MIB = 2**20


@pytest.fixture(scope="module")
def fresh_processes() -> Iterator[ProcessPoolExecutor]:
    """A new process for each call: this one has free memory of earlier tests, which it need not ask for again."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["mtmed.data", "mtmed.networks", "mtmed.transforms"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        yield processes


@pytest.fixture
def bounded(fresh_processes: ProcessPoolExecutor) -> Callable[..., object]:
    """Call a function that may ask for `most` bytes beyond what its process has; asking for more is a MemoryError."""

    def run(function: Callable[..., object], *given: object, most: int = 64 * MIB) -> object:
        return fresh_processes.submit(call_bounded, function, given, most).result()

    return run


def call_bounded(function: Callable[..., object], given: Sequence[object], most: int) -> object:
    found = re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    resource.setrlimit(resource.RLIMIT_AS, (int(found[1]) * 1024 + most,) * 2)
    return function(*given)


@pytest.fixture
def refused(bounded: Callable[..., object]) -> Callable[..., None]:
    def check(read: Callable[[Path], object], path: Path, problem: str, *, most: int = 64 * MIB) -> None:
        with pytest.raises(InputError) as caught:
            bounded(read, path, most=most)
        line = str(caught.value)
        assert line.startswith(f"{path}: ")
        assert problem in line
        assert "\n" not in line

    return check


def test_the_bound_of_these_tests_notices_memory(bounded: Callable[..., object]) -> None:
    assert bounded(sum_of_ones, 40 * MIB) == 40 * MIB
    with pytest.raises(MemoryError):
        bounded(sum_of_ones, 80 * MIB)


def sum_of_ones(number: int) -> int:
    return int(np.ones(number, np.uint8).sum())


def test_gzip_may_not_inflate_to_more_than_its_header_says(tmp_path: Path, refused: Callable[..., None]) -> None:
    path = tmp_path / "ct.nii.gz"
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    path.write_bytes(gzip.compress(image + bytes(80 * MIB), 1))
    refused(read_nifti, path, "bytes more")


def test_a_header_may_not_claim_more_than_deflate_can_hold(tmp_path: Path, refused: Callable[..., None]) -> None:
    path = tmp_path / "ct.nii.gz"
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 100))
    path.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    refused(read_nifti, path, "header claims 30000x30000x100 voxels, more than the file can hold")


@pytest.mark.parametrize("claimed", [(12000, 12000), (2**31 - 1, 2**31 - 1)])
def test_a_png_of_too_many_pixels_is_refused_by_its_header(
    tmp_path: Path, claimed: tuple[int, int], refused: Callable[..., None]
) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(*claimed, pixels=bytes(80 * MIB)))
    refused(read_png, path, f"its header claims {claimed[0]}x{claimed[1]} pixels")


def test_a_png_may_not_inflate_to_more_than_its_header_says(tmp_path: Path, bounded: Callable[..., object]) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(16, 16, pixels=bytes(80 * MIB)))
    assert bounded(shape_if_read, path) in [(16, 16, 1), None]


def test_a_text_chunk_of_a_png_is_not_inflated_without_bound(tmp_path: Path, bounded: Callable[..., object]) -> None:
    path = tmp_path / "scan.png"
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(80 * MIB)))
    path.write_bytes(png(4, 4, pixels=bytes(4 * 5), before=text))
    assert bounded(shape_if_read, path) in [(4, 4, 1), None]


def shape_if_read(path: Path) -> tuple[int, ...] | None:
    """Which of two it is depends on the library that inflates: what it claims is read, or it is refused."""
    try:
        return read_png(path).data.shape
    except InputError:
        return None


def png(width: int, height: int, *, pixels: bytes, before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels, 1))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture
def deflated(tmp_path: Path) -> Callable[..., Path]:
    """Write an X-ray whose data set is deflated as a whole."""
    pytest.importorskip("pydicom")
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian, DigitalXRayImageStorageForPresentation

    def write(*, side: int, more: int = 0, group_length: bool = True) -> Path:
        dataset = Dataset()
        dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME2"
        dataset.Rows = dataset.Columns = side
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
        dataset.add_new("PixelData", "OW", bytes(range(256)) * (min(side, 64) ** 2 // 128))
        plain = BytesIO()
        pydicom.dcmwrite(plain, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = deflater.compress(plain.getvalue())
        body += b"".join(deflater.compress(bytes(MIB)) for _ in range(more // MIB)) + deflater.flush()
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
        head = BytesIO()
        pydicom.filewriter.write_file_meta_info(head, meta)
        path = tmp_path / "x_ray.dcm"
        start = head.getvalue() if group_length else head.getvalue()[12:]
        path.write_bytes(bytes(128) + b"DICM" + start + body)
        return path

    return write


def test_a_deflated_x_ray_is_read(deflated: Callable[..., Path]) -> None:
    expected = np.frombuffer(bytes(range(256)) * 32, "<u2").reshape(64, 64)
    np.testing.assert_array_equal(read_dicom_image(deflated(side=64)).data[..., 0].T, expected)


def test_a_deflated_x_ray_may_not_unpack_to_more_than_a_limit(
    deflated: Callable[..., Path], refused: Callable[..., None]
) -> None:
    assert inflation._MOST_DICOM == 256 * MIB
    path = deflated(side=64, more=80 * MIB)
    assert path.stat().st_size < MIB
    refused(read_of_at_most_16_mib, path, "unpacks to more than 16 MiB", most=32 * MIB)


def read_of_at_most_16_mib(path: Path) -> None:
    inflation._MOST_DICOM = 16 * MIB
    read_dicom_image(path)


def test_a_deflated_x_ray_must_say_where_its_data_begin(
    deflated: Callable[..., Path], refused: Callable[..., None]
) -> None:
    path = deflated(side=64, group_length=False)
    refused(read_dicom_image, path, "is deflated and does not say where its data begin")


def test_an_x_ray_of_too_many_pixels_is_refused_by_its_header(
    deflated: Callable[..., Path], refused: Callable[..., None]
) -> None:
    path = deflated(side=60_000)
    refused(read_dicom_image, path, "its header claims 60000x60000 pixels")


def test_the_length_of_a_field_of_a_table_is_bounded(tmp_path: Path, refused: Callable[..., None]) -> None:
    path = tmp_path / "masks.csv"
    path.write_text("id,mask\na," + "1 " * MIB + "\n")
    refused(all_rows, path, "field larger than field limit")


def all_rows(path: Path) -> None:
    list(table_rows(path, [0]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param('{"a": ' + "[" * 200_000, "nests too many lists or objects", id="lists"),
        pytest.param('{"a": ' * 200_000, "nests too many lists or objects", id="objects"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "holds a value that cannot be read", id="digits"),
        pytest.param("{" + ", ".join(f'"{n}": 0' for n in range(200_000)) + ', "7": 1}', "'7' twice", id="many keys"),
    ],
)
def test_a_data_list_of_no_use_is_refused(
    tmp_path: Path, text: str, problem: str, refused: Callable[..., None]
) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(text)
    refused(read_data_list, path, problem, most=256 * MIB)


def test_a_data_list_of_more_than_256_mib_is_not_read(tmp_path: Path, refused: Callable[..., None]) -> None:
    path = tmp_path / "dataset.json"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    refused(read_data_list, path, "is larger than 256 MiB")


def read_data_list(path: Path) -> None:
    read_json_object(path, remedy="give a data list")


def test_weights_that_unpack_to_far_more_are_refused(tmp_path: Path, refused: Callable[..., None]) -> None:
    import zipfile

    path = tmp_path / "model.pt"
    torch.save({"model": {}, "network_def": {}, "settings": {}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for record in plain.namelist():
            bomb.writestr(record, plain.read(record))
        bomb.writestr("plain/data/0", bytes(80 * MIB))
    refused(load_weights, path, "is damaged or not a weights file")


@pytest.mark.parametrize(
    "weight",
    [
        pytest.param(torch.zeros(1).expand(2**40), id="one number for a terabyte"),
        pytest.param(torch.zeros(2).to(torch.float8_e4m3fn), id="eight bits"),
        pytest.param(torch.eye(3).to_sparse(), id="sparse"),
        pytest.param(torch.zeros(2, device="meta"), id="no numbers"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_refused(
    tmp_path: Path, weight: torch.Tensor, refused: Callable[..., None]
) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {"a": weight}, "network_def": {}, "settings": {}}, path)
    refused(load_weights, path, "weight a is no dense tensor of numbers")


def test_a_released_file_with_a_network_of_anything_else_is_refused(
    tmp_path: Path, refused: Callable[..., None]
) -> None:
    from mtmed.networks import load_network, save_released

    path = tmp_path / "model.safetensors"
    for definition in (
        {"_target_": "monai.networks.nets.HoVerNet", "pretrained_url": "https://example.invalid/weights.pt"},
        {"_target_": "monai.networks.nets.EfficientNetBN", "model_name": "efficientnet-b0"},
        {"_target_": "monai.networks.nets.Transchex", "in_channels": 3, "img_size": [32, 32], "num_classes": 1},
        {"_target_": "monai.networks.nets.densenet.nn.Linear", "in_features": 1, "out_features": 1},
        {"_target_": "mtmed.networks.weights.torch.hub.load"},
        json.loads('{"_target_": "builtins.eval"}'),
    ):
        save_released(path, {"model": {}, "network_def": definition, "settings": {}})
        refused(load_network, path, "")
        path.unlink()

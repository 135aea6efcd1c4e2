"""DICOM headers full of markers in place of what tells of a patient, and a search for them in all that was written."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

__all__ = ["found_in", "found_in_files", "mark", "mark_file"]

_WORD = "Zq9marker"
_ROOT = "1.2.999.7654321"  # of UIDs
_DATE, _TIME = "19410213", "031415.926535"
_TEXT = {
    "PatientName": "^Zq9marker^Name",
    **{
        name: f"{_WORD} {number}"
        for number, name in enumerate(
            (
                "PatientID",
                "OtherPatientIDs",
                "IssuerOfPatientID",
                "PatientAddress",
                "PatientMotherBirthName",
                "EthnicGroup",
                "Occupation",
                "PatientComments",
                "AdditionalPatientHistory",
                "InstitutionName",
                "InstitutionAddress",
                "InstitutionalDepartmentName",
                "ReferringPhysicianName",
                "PerformingPhysicianName",
                "OperatorsName",
                "StationName",
                "AccessionNumber",
                "StudyID",
                "StudyDescription",
                "SeriesDescription",
                "ProtocolName",
                "Manufacturer",
                "ManufacturerModelName",
                "DeviceSerialNumber",
                "ImageComments",
                "RequestedProcedureDescription",
            )
        )
    },
}
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
_TIMES = ("PatientBirthTime", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "DeviceUID")
MARKERS = tuple(text.casefold().encode() for text in (_WORD, _ROOT, _DATE, _TIME))


def mark(header: Dataset, *, image: int, series: int = 1) -> None:
    """Fill a header with markers; geometry, modality and pixels stay."""
    for name, text in _TEXT.items():
        setattr(header, name, text[:16] if name in ("StationName", "AccessionNumber", "StudyID") else text)
    for name in _DATES:
        setattr(header, name, _DATE)
    for name in _TIMES:
        setattr(header, name, _TIME)
    for name in _UIDS:
        setattr(header, name, f"{_ROOT}.{series}" + (f".{image}" if name.startswith("SOP") else ""))
    private = header.private_block(0x0099, f"{_WORD} creator", create=True)
    private.add_new(0x01, "LO", f"{_WORD} private")
    private.add_new(0x02, "UN", f"{_WORD} unknown".encode() + b" ")
    request = Dataset()
    request.RequestedProcedureDescription = f"{_WORD} nested"
    request.ScheduledProcedureStepID = f"{_WORD} step"[:16]
    header.RequestAttributesSequence = [request]


def mark_file(path: Path, *, image: int) -> None:
    """The same for a file."""
    file = dcmread(path)
    mark(file, image=image)
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    file.preamble = b"Zq9marker preamble".ljust(128, b"\0")
    file.save_as(path)


def found_in(content: bytes) -> list[str]:
    """Markers in some bytes, in whatever is packed in them (gzip, zip, the text of PNG), and as UTF-16."""
    return sorted({marker.decode() for part in _parts(content) for marker in MARKERS if _holds(part, marker)})


def found_in_files(folder: Path, *, but: Mapping[Path, object]) -> dict[str, list[str]]:
    """Markers in the names and contents of all files below a folder, but those of some files; by file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path in but:
            continue
        own = found_in(path.name.encode()) + (found_in(path.read_bytes()) if path.is_file() else [])
        if own:
            found[str(path.relative_to(folder))] = own
    return found


def _holds(content: bytes, marker: bytes) -> bool:
    lower = content.lower()  # ASCII letters only, which markers are
    return marker in lower or any(marker.decode().encode(code) in lower for code in ("utf-16-le", "utf-16-be"))


def _parts(content: bytes) -> Iterator[bytes]:
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from _parts(gzip.decompress(content))
    elif content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from _parts(archive.read(name))
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            yield repr(image.info).encode()
    elif content[:1] == b"\x78":
        try:
            yield zlib.decompress(content)
        except zlib.error:
            return

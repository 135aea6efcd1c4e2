"""What a file of weights would load, from its opcodes or its header; nothing of it is loaded."""

import io
import json
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["weights_faults"]

_LARGEST_PICKLE = 64 * 1024 * 1024  # bytes; a state dict's structure is far smaller, its numbers lie beside
_MOST_MEMBERS = 100_000
_PICKLES_IN_A_ROW = 5  # what torch's format before zip files had: magic number, version, system, content, keys
_TENSORS = frozenset(
    {"collections OrderedDict", "torch Size", "torch device", "torch.nn.parameter Parameter"}
    | {f"torch._utils _rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3", "parameter", "qtensor")}
    | {f"torch {kind}" for kind in ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64")}
    | {f"torch {kind}" for kind in ("uint8", "bool", "complex64", "complex128", "strided")}
    | {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Char", "Short", "Int", "Long")}
    | {f"torch {kind}Storage" for kind in ("Byte", "Bool", "ComplexFloat", "ComplexDouble", "Untyped")}
    | {"torch.storage UntypedStorage", "torch.storage TypedStorage"}
)


def weights_faults(path: Path) -> tuple[str, list[str]] | None:
    """What kind of weights a file holds, and what of it is suspicious; None if it holds none.

    The content decides, not the name: a safetensors file by its header, a zip file by the pickles in it, a pickle by
    its first opcode, a NumPy file by its header.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if path.suffix.lower() == ".safetensors":
        return "safetensors", _safetensors_faults(path, start)
    if start[:6] == b"\x93NUMPY":
        return "NumPy array", ["holds objects, which are a pickle"] if b"|O" in start[:512] else []
    if start[:2] == b"PK":
        return _zip_faults(path)
    if start[:1] == b"\x80" and len(start) > 1 and 2 <= start[1] <= 5:
        return "pickle", _pickle_faults(_bounded(path))
    if path.suffix.lower() in {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".bin"}:
        return "weights of no known format", ["cannot be told to be safe"]
    return None


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_PICKLE)


def _safetensors_faults(path: Path, start: bytes) -> list[str]:
    size = path.stat().st_size
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else size
    if length > min(size - 8, 100 * 1024 * 1024):
        return ["its header is longer than the file or the format allow"]
    with path.open("rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return ["its header is not JSON"]
    return [] if isinstance(header, dict) else ["its header is no table of tensors"]


def _zip_faults(path: Path) -> tuple[str, list[str]] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                return "zip file", [f"has more than {_MOST_MEMBERS} members"]
            pickles = [member for member in members if member.filename.lower().endswith((".pkl", ".pickle"))]
            if not pickles:
                return None
            if any("/code/" in f"/{member.filename}" for member in members):
                return "TorchScript", ["holds code, which runs when it is loaded"]
            faults: list[str] = []
            for member in pickles:
                if member.file_size > _LARGEST_PICKLE:
                    faults.append(f"{member.filename} is too large for a table of tensors")
                else:
                    faults += _pickle_faults(archive.read(member))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        return "zip file", [f"cannot be read ({error})"]
    return "zip file of tensors", list(dict.fromkeys(faults))


def _pickle_faults(data: bytes) -> list[str]:
    stream, faults = io.BytesIO(data), []
    for number in range(_PICKLES_IN_A_ROW):
        try:
            faults += [f"would import {name}" for name in _globals(stream) if name not in _TENSORS]
        except Exception as error:  # what is no pickle fails in many ways
            if number == 0:
                faults.append(f"is a damaged pickle ({error})")
            break
    return list(dict.fromkeys(faults))


def _globals(stream: io.BytesIO) -> Iterator[str]:
    """``module name`` of everything that one pickle would import."""
    texts: list[str | None] = []  # what was pushed last; None for anything but text
    memo: dict[int, str | None] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in {"GLOBAL", "INST"}:
            yield str(argument)
        elif name == "STACK_GLOBAL":
            module, attribute = texts[-2:] if len(texts) >= 2 else (None, None)
            yield f"{module} {attribute}" if module and attribute else "something whose name is hidden"
        elif name.startswith("EXT"):
            yield f"extension {argument}"
        if name == "MEMOIZE":
            memo[len(memo)] = texts[-1] if texts else None
        elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            memo[int(argument or 0)] = texts[-1] if texts else None
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            texts.append(memo.get(int(argument or 0)))
        elif name not in {"PROTO", "FRAME"}:
            texts.append(argument if isinstance(argument, str) and "UNICODE" in name else None)

"""What the MONAI Model Zoo asks of a bundle folder, as far as files alone can show it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.zoo.channels import channel_counts
from mtmed.zoo.metadata_schema import METADATA_SCHEMA
from mtmed.zoo.verified_weights import WEIGHTS_SHA256, changed_weights

__all__ = ["check_bundle"]

TASK_WORDS = ("segmentation", "classification", "detection", "deepedit")
NECESSARY_FILES = ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md")
LARGEST_FILE = 25 * 1024 * 1024  # bytes; what is larger comes through large_files.yml
NECESSARY_KEYS = {
    "inference.json": ("bundle_root", "device", "dataset_dir", "network_def", "inferer", "dataset", "evaluator"),
    "train.json": ("bundle_root", "device", "dataset_dir", "train"),
}
_PRIVATE_PATH = re.compile(
    r"(?<![\w.:/*@}\])])(?<!\+ ['\"])/(?:home|root|Users|tmp|mnt|media|data|workspace|work|scratch|opt|var)/"
    r"|(?<!\w)[A-Za-z]:\\|~/"
)


def check_bundle(folder: str | Path) -> list[str]:
    """Find what the MONAI Model Zoo would refuse, without a network connection and without running the bundle.

    Checked are the files and the folder's name, the JSON files' form, paths of one machine, sizes, the metadata's
    fields, version and hashes of weights, the keys of the configs, and that inference, train and metadata speak of one
    network.

    Args:
        folder: a bundle in the zoo's layout.

    Returns:
        One line per problem, empty if there is none.

    Raises:
        InputError: if there is no such folder, or jsonschema is not installed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(root, "is no folder", "pass the folder that mtmed export wrote")
    problems = [
        *_file_problems(root),
        *(problem for file in sorted(root.glob("**/*.json")) for problem in _json_problems(root, file)),
    ]
    metadata = _load(root / "configs" / "metadata.json")
    if metadata is not None:
        problems += _metadata_problems(metadata)
        stated = metadata.get(WEIGHTS_SHA256, {})
        for changed in changed_weights(root, stated if isinstance(stated, dict) else {}):
            problems.append(f"{changed}: its SHA-256 is not that of configs/metadata.json")
    configs = {name: _load(root / "configs" / name) for name in NECESSARY_KEYS}
    for name, config in configs.items():
        if config is not None:
            problems += _config_problems(name, config)
    inference = configs["inference.json"]
    if metadata is not None and inference is not None:
        problems += _network_problems(
            metadata, {name: config for name, config in configs.items() if config is not None}
        )
    return problems


def _load(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _file_problems(root: Path) -> Iterator[str]:
    if not re.fullmatch(r"[a-zA-Z0-9]+(_[a-zA-Z0-9]+)+", root.name):
        yield f"{root.name}: the folder's name must be words of letters and digits joined by _"
    if root.name.split("_")[-1] not in TASK_WORDS:
        yield f"{root.name}: the folder's name must end with one of {', '.join(TASK_WORDS)}"
    large_files = any(root.glob("large_files.*"))
    for name in NECESSARY_FILES:
        if not (root / name).is_file() and not (name.startswith("models/") and large_files):
            yield f"{name}: is missing"
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.is_symlink():
            yield f"{name}: is a link"
        elif "__pycache__" in name:
            yield f"{name}: does not belong in a bundle"
        elif file.is_file() and file.stat().st_size > LARGEST_FILE and not name.startswith("models/"):
            yield f"{name}: is larger than 25 MB"


def _json_problems(root: Path, file: Path) -> Iterator[str]:
    name = file.relative_to(root).as_posix()
    text = file.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except ValueError as error:
        yield f"{name}: is not JSON ({error})"
        return
    if text not in {json.dumps(content, indent=4, ensure_ascii=ascii_only) + "\n" for ascii_only in (True, False)}:
        yield f"{name}: is not indented by 4 spaces with a line break at the end"
    for where, value in _strings(content, ""):
        if _PRIVATE_PATH.search(value):
            yield f"{name}: {where} holds a path of one machine: {value}"


def _strings(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{where}::{key}" if where else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{where}::{index}")


def _metadata_problems(metadata: dict[str, Any]) -> Iterator[str]:
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise InputError("jsonschema", "is not installed", 'python -m pip install "mtmed[zoo]"') from error
    for fault in Draft202012Validator(METADATA_SCHEMA).iter_errors(metadata):
        where = "::".join(str(part) for part in fault.absolute_path)
        yield f"configs/metadata.json: {where + ': ' if where else ''}{fault.message}"
    version, changelog = metadata.get("version"), metadata.get("changelog")
    if not isinstance(changelog, dict) or version not in changelog:
        yield f"configs/metadata.json: version {version} is not in changelog"


def _config_problems(name: str, config: dict[str, Any]) -> Iterator[str]:
    for key in NECESSARY_KEYS[name]:
        if key not in config:
            yield f"configs/{name}: {key} is missing"
    if config.get("bundle_root", ".") != ".":
        yield f'configs/{name}: bundle_root is {config["bundle_root"]!r}, which must be "."'
    if name == "train.json":
        for where in (
            ("train", "trainer"),
            ("train", "trainer", "max_epochs"),
            ("train", "dataset"),
            ("train", "inferer"),
        ):
            found: Any = config
            for part in where:
                found = found.get(part) if isinstance(found, dict) else None
            if found is None:
                yield f"configs/{name}: {'::'.join(where)} is missing"
        handlers = config["train"].get("handlers") if isinstance(config.get("train"), dict) else None
        if not isinstance(handlers, list):
            yield f"configs/{name}: train::handlers must be a list"


def _network_problems(metadata: dict[str, Any], configs: dict[str, dict[str, Any]]) -> Iterator[str]:
    definition = configs["inference.json"].get("network_def")
    if not isinstance(definition, dict) or "_target_" not in definition:
        yield "configs/inference.json: network_def must be a literal with _target_"
        return
    for where, value in _strings(definition, "network_def"):
        if value.startswith(("$", "@", "%")):
            yield f"configs/inference.json: {where} is {value!r}, which must be a plain value"
    if "train.json" in configs and configs["train.json"].get("network_def") != definition:
        yield "configs/train.json: network_def is not that of inference.json"
    data_format = metadata.get("network_data_format")
    counts = channel_counts(definition)
    for part, tensor in (("inputs", "image"), ("outputs", "pred")):
        try:
            described = data_format[part][tensor]["num_channels"]  # type: ignore[index]
        except (KeyError, TypeError):
            yield f"configs/metadata.json: network_data_format::{part}::{tensor}::num_channels is missing"
            continue
        if counts[tensor] not in (None, described):
            yield (
                f"configs/metadata.json: network_data_format::{part}::{tensor} has {described} channels, "
                f"the network {counts[tensor]}"
            )

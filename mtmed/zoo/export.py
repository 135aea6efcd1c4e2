"""A bundle and a checkpoint become a folder in the layout of the MONAI Model Zoo.

The flat folder ``bundles/<method>`` is the source; this is its build product. The network and its settings come from
the checkpoint and are written as plain values into every file that speaks of them.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.output_name import output_name
from mtmed.zoo.channels import channel_counts, channel_names
from mtmed.zoo.contract import check_bundle
from mtmed.zoo.exported_config import RENAMED, exported_config
from mtmed.zoo.verified_weights import WEIGHTS_SHA256

__all__ = ["add_arguments", "export_bundle", "run"]

NEEDED = ("inference.json", "metadata.json", "logging.conf", "LICENSE", "docs/README.md")
# names of the training that makes model.pt
TRAINING = ("finetune.json", "train.json", "stage1.json")
# weights that a bundle uses beside its model.pt
BESIDE = ("rough.pt",)


def export_bundle(bundle: str | Path, *, checkpoint: str | Path, output: str | Path, name: str | None = None) -> Path:
    """Write ``output/name`` in the layout of the MONAI Model Zoo.

    ``configs/`` gets the metadata, ``train.json`` (or ``finetune.json`` or ``stage1.json`` under this name),
    ``distill.json``, ``inference.json``, ``evaluate.json``, ``ensemble.json``, ``multi_gpu_train.json`` (from
    ``multi_gpu.json``) and ``logging.conf``;
    ``models/model.pt`` the network's state alone, which is what `monai.bundle.load` and the zoo's checks read, while
    its definition and settings stand in the configs; further weights beside the checkpoint (a rough lesion network) go
    there too, as safetensors. The metadata give the SHA-256 of each, which the configs verify before they read it.
    ``docs/`` and ``LICENSE`` are copied, and so is the package mtmed, which the configs import.

    Args:
        bundle: folder of the bundle, for example ``bundles/mixcl``.
        checkpoint: ``model.pt`` of a fine-tuning run.
        output: folder in which the exported folder is made.
        name: name of the exported folder, in the zoo's form anatomy_modality_task; default: the bundle's name, the
            network's name and "segmentation".

    Returns:
        The exported folder.

    Raises:
        InputError: if a file of the bundle is missing, the checkpoint is not a whole network, or the target exists.
    """
    # inside, so that the command line answers at once
    import torch

    import mtmed
    from mtmed.networks import RELEASED, load_network, load_weights, network_definition, save_released, sha256_of

    source = Path(bundle)
    for needed in NEEDED:
        if not (source / needed).is_file():
            raise InputError(source / needed, "no such file", "pass the folder of a bundle, such as bundles/mixcl")
    if not any((source / name).is_file() for name in TRAINING):
        raise InputError(source, f"has no {', '.join(TRAINING[:-1])} or {TRAINING[-1]}", "pass the folder of a bundle")
    if name is not None and (not name.strip(".") or output_name(name) != name):
        raise InputError("--name", f"is {name!r}, which is no name of a folder", "give words joined by _")
    network, settings = load_network(checkpoint)
    definition = network_definition(network)
    metadata = _metadata(_read(source / "metadata.json"), definition, settings, culprit=str(checkpoint))
    target = Path(output) / (name or f"{source.resolve().name}_{type(network).__name__.lower()}_segmentation")
    if target.exists():
        raise InputError(target, "exists already", "remove it, or pass another --output or --name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            (beside / "configs").mkdir()
            (beside / "models").mkdir()
            for file, renamed in RENAMED.items():
                if (source / file).is_file():
                    config = exported_config(_read(source / file), definition, settings, culprit=str(checkpoint))
                    _write(beside / "configs" / renamed, config)
            shutil.copy(source / "logging.conf", beside / "configs" / "logging.conf")
            shutil.copy(source / "LICENSE", beside / "LICENSE")
            shutil.copytree(source / "docs", beside / "docs")
            torch.save(dict(network.state_dict()), beside / "models" / "model.pt")
            for weights in BESIDE:
                if (found := Path(checkpoint).with_name(weights)).is_file():
                    save_released((beside / "models" / weights).with_suffix(RELEASED), load_weights(found))
            digests = {f"models/{file.name}": sha256_of(file) for file in sorted((beside / "models").iterdir())}
            _write(beside / "configs" / "metadata.json", {**metadata, WEIGHTS_SHA256: digests})
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(Path(mtmed.__file__).parent, beside / "mtmed", ignore=ignored)
            beside.chmod(0o755)
            beside.rename(target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError(target, f"cannot be written ({error.strerror or error})", "pass another --output") from error
    return target


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(file, f"is not JSON ({error})", "correct it") from error
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _metadata(
    metadata: dict[str, Any], definition: Mapping[str, Any], settings: Mapping[str, Any], *, culprit: str
) -> dict[str, Any]:
    """The source's metadata with the tensors of the checkpoint's network."""
    for key in ("label_names", "modalities"):
        if key not in settings:
            raise InputError(culprit, f"has no setting {key!r}", "pass model.pt of a fine-tuning run")
    counts, names = channel_counts(definition), channel_names(settings)
    size = settings.get("patch_size") or settings.get("image_size")
    for part, tensor in (("inputs", "image"), ("outputs", "pred")):
        if counts[tensor] not in (None, len(names[tensor])):
            problem = f"has {counts[tensor]} channels of {tensor} and names for {len(names[tensor])}"
            raise InputError(culprit, problem, "pass a weights file that mtmed wrote")
        described = metadata["network_data_format"][part][tensor]
        described["num_channels"] = len(names[tensor])
        if size is not None:  # else the network takes whole volumes, as the source's metadata say
            described["spatial_shape"] = [int(side) for side in size]
        described["channel_def"] = {str(number): name for number, name in enumerate(names[tensor])}
    return metadata


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed export`` to its parser."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle, for example bundles/mixcl")
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="model.pt of a fine-tuning run")
    parser.add_argument("--output", default="dist", metavar="FOLDER", help="where the exported folder is made")
    parser.add_argument("--name", help="name of the exported folder, such as abdomen_ct_unetr_segmentation")


def run(arguments: argparse.Namespace) -> int:
    """Export, check the result and say what was written; status 1 if the zoo would refuse it."""
    folder = export_bundle(
        arguments.bundle, checkpoint=arguments.checkpoint, output=arguments.output, name=arguments.name
    )
    problems = check_bundle(folder)
    for problem in problems:
        print(f"problem: {problem}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(f"written: {folder} ({size:.1f} MB), {len(problems)} problems")
    print(f"next: cd {folder} && python -m monai.bundle run --config_file configs/inference.json --dataset_dir FOLDER")
    return 1 if problems else 0

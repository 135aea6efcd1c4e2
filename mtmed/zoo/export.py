"""A bundle and a checkpoint become a folder in the layout of the MONAI Model Zoo.

The flat folder ``bundles/<method>`` is the source; this is its build product. The network and its settings come from
the checkpoint and are written as plain values into every file that speaks of them.
"""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.zoo.contract import check_bundle

__all__ = ["add_arguments", "export_bundle", "run"]

NEEDED = ("inference.json", "metadata.json", "logging.conf", "LICENSE", "docs/README.md")
# the training that makes model.pt is called either
TRAINING = ("finetune.json", "train.json")
RENAMED = {
    "finetune.json": "train.json",
    "train.json": "train.json",
    "inference.json": "inference.json",
    "evaluate.json": "evaluate.json",
    "multi_gpu.json": "multi_gpu_train.json",
}
# knobs of training whose value belongs to the weights; inference names what it takes from the settings
SETTING_KEYS = (
    *("variant", "modalities", "spacing", "window", "patch_size"),
    *("part", "overlap", "label_groups"),
    *("brain_mask", "tissue", "tissue_modality", "tissue_table", "merged_lesions"),
)
# weights that a bundle uses beside its model.pt, taken over as they are
BESIDE = ("rough.pt",)


def export_bundle(bundle: str | Path, *, checkpoint: str | Path, output: str | Path, name: str | None = None) -> Path:
    """Write ``output/name`` in the layout of the MONAI Model Zoo.

    ``configs/`` gets the metadata, ``train.json`` (or ``finetune.json`` under this name), ``inference.json``,
    ``evaluate.json``, ``multi_gpu_train.json`` (from ``multi_gpu.json``) and ``logging.conf``; ``models/model.pt`` the
    network's state alone, which is what `monai.bundle.load` and the zoo's checks read, while its definition and
    settings stand in the configs; further weights beside the checkpoint (a rough lesion network) go there too.
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
    from mtmed.networks import load_network, network_definition

    source = Path(bundle)
    for needed in NEEDED:
        if not (source / needed).is_file():
            raise InputError(source / needed, "no such file", "pass the folder of a bundle, such as bundles/mixcl")
    if not any((source / name).is_file() for name in TRAINING):
        raise InputError(source, f"has neither {' nor '.join(TRAINING)}", "pass the folder of a bundle")
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
            _write(beside / "configs" / "metadata.json", metadata)
            for file, renamed in RENAMED.items():
                if (source / file).is_file():
                    _write(beside / "configs" / renamed, _config(_read(source / file), definition, settings))
            shutil.copy(source / "logging.conf", beside / "configs" / "logging.conf")
            shutil.copy(source / "LICENSE", beside / "LICENSE")
            shutil.copytree(source / "docs", beside / "docs")
            torch.save(dict(network.state_dict()), beside / "models" / "model.pt")
            for weights in BESIDE:
                if (Path(checkpoint).parent / weights).is_file():
                    shutil.copy(Path(checkpoint).parent / weights, beside / "models" / weights)
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


def _config(config: dict[str, Any], definition: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A config of the source with the checkpoint's network and settings, and the zoo's places of files.

    A config that rebuilds the network from the weights file (key ``loaded``) gets the network as a literal and MONAI's
    handler that loads its state, as is the custom in the zoo.
    """
    fixed: dict[str, Any] = {
        "bundle_root": ".",
        "network_def": dict(definition),
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        **{key: settings[key] for key in SETTING_KEYS if key in settings},
    }
    rebuilds = "loaded" in config
    if rebuilds:
        # whose scans the network saw concerns the lab alone
        fixed["settings"] = {key: value for key, value in settings.items() if key != "trained_on"}
        fixed |= {key: value for key, value in settings.items() if config.get(key) == f"$@settings['{key}']"}
        # as an expression: a dictionary with _target_ would be built
        literal = {"$mtmed.networks.network_definition(@network_def)": f"${dict(definition)!r}"}
        loader = {"_target_": "CheckpointLoader", "load_path": "@weights", "load_dict": {"model": "@network"}}
        fixed["handlers"] = [loader, *_moved(_replaced(config.get("handlers", []), literal))]
        config = _replaced({key: value for key, value in config.items() if key != "loaded"}, literal)
    return {key: fixed[key] if key in fixed else _moved(value) for key, value in config.items()}


def _replaced(value: Any, literal: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, literal) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, literal) for item in value]
    return literal.get(value, value) if isinstance(value, str) else value


def _moved(value: Any) -> Any:
    """The value with the names that config files have after the export."""
    if isinstance(value, dict):
        return {key: _moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    if isinstance(value, str):
        return re.sub(
            r"(@bundle_root\}?(?: \+ ['\"])?/)(\w+\.json)",
            lambda found: f"{found[1]}configs/{RENAMED.get(found[2], found[2])}",
            value,
        )
    return value


def _metadata(
    metadata: dict[str, Any], definition: Mapping[str, Any], settings: Mapping[str, Any], *, culprit: str
) -> dict[str, Any]:
    """The source's metadata with the tensors of the checkpoint's network."""
    for key in ("label_names", "modalities"):
        if key not in settings:
            raise InputError(culprit, f"has no setting {key!r}", "pass model.pt of a fine-tuning run")
    labels = [settings["label_names"][value] for value in sorted(settings["label_names"], key=int)]
    channels = {
        "image": (definition.get("in_channels"), settings.get("input_channels", settings["modalities"])),
        "pred": (definition.get("out_channels"), settings.get("output_channels", labels)),
    }
    for part, tensor in (("inputs", "image"), ("outputs", "pred")):
        count, names = channels[tensor]
        if count not in (None, len(names)):
            problem = f"has {count} channels of {tensor} and names for {len(names)}"
            raise InputError(culprit, problem, "pass a weights file that mtmed wrote")
        described = metadata["network_data_format"][part][tensor]
        described["num_channels"] = len(names)
        if "patch_size" in settings:  # else the network takes whole volumes, as the source's metadata say
            described["spatial_shape"] = [int(size) for size in settings["patch_size"]]
        described["channel_def"] = {str(number): str(name) for number, name in enumerate(names)}
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

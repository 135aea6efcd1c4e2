"""ImageNet weights from a local file, in torchvision's names."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mtmed.errors import InputError
from mtmed.networks.archive import verify_archive

__all__ = ["load_imagenet_weights"]

_REMEDY = "give a file of torchvision's weights for this network (.pth or .safetensors)"


def _read(path: Path) -> dict[str, Tensor]:
    content: Any
    if not path.is_file():
        raise InputError(path, "no such file", _REMEDY)
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            if zipfile.is_zipfile(path):  # older files of torchvision are plain pickles
                verify_archive(path, remedy=f"copy it again or {_REMEDY}")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(path, "holds more than tensors and plain values", _REMEDY) from error
    except Exception as error:  # safetensors has errors of its own
        raise InputError(path, "is damaged or not a weights file", f"copy it again or {_REMEDY}") from error
    is_state = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    return content if is_state else {}


def load_imagenet_weights(encoder: nn.Module, path: str | Path) -> None:
    """Copy the weights of a file into an encoder; all of them must arrive.

    The file may hold more (later stages, the classifier). It may lack the counters ``num_batches_tracked``, as
    torchvision's older files do; nothing depends on them.

    Args:
        encoder: whose parameters have torchvision's names.
        path: state dict, ``.safetensors`` or written by ``torch.save``.

    Raises:
        InputError: if the file is missing, damaged or would run code, or a tensor of the encoder is missing in it, has
            another shape there or is not finite.
    """
    path = Path(path)
    found = _read(path)
    own = {name: value for name, value in encoder.state_dict().items() if not name.endswith("num_batches_tracked")}
    fits = [name for name in own if name in found and found[name].shape == own[name].shape]
    if len(fits) < len(own):
        culprit = next(name for name in own if name not in fits)
        shape = list(found[culprit].shape) if culprit in found else "missing"
        takes_other_images = culprit == "conv1.weight" and culprit in found
        raise InputError(
            path,
            f"only {len(fits)} of the encoder's {len(own)} tensors fit ({culprit}: {shape} in the file, "
            f"{list(own[culprit].shape)} in the network)",
            "give the network images of 3 channels" if takes_other_images else _REMEDY,
        )
    for name in fits:
        if not bool(torch.isfinite(found[name]).all()):
            raise InputError(path, f"weight {name} is not finite", _REMEDY)
    encoder.load_state_dict({name: found[name] for name in fits}, strict=False)

"""Label values of several data sets turned into common ones."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mtmed.errors import InputError

__all__ = ["GroupLabelsd"]

_LOWEST, _HIGHEST = -(1 << 15), (1 << 15) - 1  # values outside stand at these ends of the lookup table
_ROUNDING = 1e-3  # label values stored with a scale factor miss whole numbers by less


class GroupLabelsd(MapTransform):
    """Replace each label value by that of its group, for example kidney and tumour by one value.

    Gives uint8, (1, H, W, D); values that are not listed become 0. The data set is the first part of the entry
    ``case``, ``dataset/id``.

    Args:
        keys: entries with label maps.
        values: for each data set, label value to the group's value, as `mtmed.data.group_labels` gives them.
        allow_missing_keys: pass over keys that the data do not have.

    Raises:
        InputError: no groups are known for the data set, or a label holds fractions (values within 0.001 of a whole
            number are rounded).
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        *,
        values: Mapping[str, Mapping[int, int]],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values = {dataset: {int(k): int(v) for k, v in table.items()} for dataset, table in values.items()}
        for dataset, table in self.values.items():
            if not all(0 <= group <= 255 for group in table.values()):
                raise InputError("GroupLabelsd.values", f"{dataset} has {table}", "number the groups from 1 to 255")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._group(result[key], str(result.get("case", "")), key)
        return result

    def _group(self, label: Any, case: str, key: Hashable) -> torch.Tensor:
        dataset = case.split("/")[0]
        if dataset not in self.values:
            known = ", ".join(self.values) or "none"
            problem = f"the data set {dataset!r} has no label groups, known are {known}"
            raise InputError(case or key, problem, "list it in the groups")
        values = torch.as_tensor(label)
        plain = values.as_tensor() if isinstance(values, MetaTensor) else values
        if plain.is_floating_point():
            whole = plain.round()
            apart = (plain - whole).abs()
            if not apart.max() <= _ROUNDING:
                file = values.meta.get("filename_or_obj", case) if isinstance(values, MetaTensor) else case
                odd = float(plain.flatten()[apart.argmax()])
                raise InputError(file, f"holds the label value {odd:g}", "label values must be whole numbers")
            plain = whole
        groups = _look_up(plain, self.values[dataset])
        return MetaTensor(groups).copy_meta_from(values) if isinstance(values, MetaTensor) else groups


def _look_up(label: torch.Tensor, table: Mapping[int, int]) -> torch.Tensor:
    """Group of each whole number of a label map, uint8; one look into a table for all values."""
    lookup = np.zeros(1 << 16, np.uint8)
    inside = {value: group for value, group in table.items() if _LOWEST < value < _HIGHEST}
    lookup[list(inside)] = list(inside.values())  # negative values count from the end
    far = table.keys() - inside.keys()
    index = wide = label
    if far or label.dtype not in (torch.uint8, torch.int8, torch.int16):
        wide = label if label.is_floating_point() else label.long()
        index = wide.clamp(_LOWEST, _HIGHEST).to(torch.int16)
    # NumPy takes small integers as they are, PyTorch needs eight bytes for each
    groups = torch.from_numpy(np.ascontiguousarray(lookup[index.cpu().numpy()])).to(label.device)
    for value in far:
        groups[wide == value] = table[value]
    return groups

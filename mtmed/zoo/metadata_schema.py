"""What a bundle's ``metadata.json`` must hold, as a JSON schema written from the documented fields.

Follows the fields of MONAI's ``meta_schema_20240725``: required keys, their types, and the tensor descriptions in
``network_data_format`` and further ``<name>_data_format`` blocks.
"""

from typing import Any

__all__ = ["METADATA_SCHEMA"]

_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "type": {"type": "string"},
        "format": {"type": "string"},
        "modality": {"type": "string"},
        "num_channels": {"type": "integer", "minimum": 1},
        # a size in voxels or a formula such as "16*n"
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_TENSORS: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "if": {"type": "object"},
        "then": _TENSOR,
        "else": {"type": ["number", "string", "boolean"]},
    },
}
_DATA_FORMAT: dict[str, Any] = {
    "type": "object",
    "required": ["inputs", "outputs"],
    "properties": {"inputs": _TENSORS, "outputs": _TENSORS, "post_processed_outputs": _TENSORS},
}
_VERSION: dict[str, Any] = {"type": "string", "pattern": r"^\d+\.\d+\.\d+"}

METADATA_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": [
        "schema",
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "required_packages_version",
        "task",
        "description",
        "authors",
        "copyright",
        "network_data_format",
    ],
    "properties": {
        "schema": {"type": "string", "pattern": r"^https://.*/meta_schema_\d{8}\.json$"},
        "version": _VERSION,
        "changelog": {"type": "object", "additionalProperties": {"type": "string"}},
        "monai_version": _VERSION,
        "pytorch_version": _VERSION,
        "numpy_version": _VERSION,
        "required_packages_version": {"type": "object", "additionalProperties": {"type": "string"}},
        "supported_apps": {"type": "object"},
        "eval_metrics": {"type": "object"},
        "references": {"type": "array", "items": {"type": "string"}},
        **{
            key: {"type": "string"}
            for key in (
                "name",
                "task",
                "description",
                "authors",
                "copyright",
                "data_source",
                "data_type",
                "image_classes",
                "label_classes",
                "pred_classes",
                "intended_use",
            )
        },
    },
    "patternProperties": {"_data_format$": _DATA_FORMAT},
}

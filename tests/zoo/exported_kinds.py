"""The networks with which bundles are exported in tests, and what makes their trainings short."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtmed.data.demo import demo_abdomen_mr, demo_abdomen_organs, demo_chest_xray, demo_kidney_ct
from mtmed.organ_masks import packed_names

__all__ = ["BUNDLES", "HEAVY", "KINDS", "MODALITIES", "SLOW", "Kind", "unet"]

sys.path.insert(0, str(Path(__file__).parents[1] / "bundles"))
from ms_lesion_runs import SPACING, write_brains

BUNDLES = Path(__file__).parents[2] / "bundles"
MODALITIES = ["FLAIR", "T1", "T2"]
TISSUES = ["csf", "grey_matter", "white_matter"]


@dataclass(frozen=True)
class Kind:
    """A bundle with the network that is exported, and what its trainings need to be short.

    Attributes:
        bundle: folder of the source.
        name: of the export.
        definition: of the network.
        settings: of the network.
        image: names of the channels that the network takes.
        pred: names of the channels that it gives.
        size: of an image that the network takes, voxels.
        scans: writes a cohort into a folder.
        fixed: settings that stand in the exported training.
        training: options of a short training.
        split: options that say which cases are for what.
        rough: whether a rough lesion network lies beside.
        any_size: the metadata name multiples in place of one size.
    """

    bundle: str
    name: str
    definition: dict[str, Any]
    settings: dict[str, Any]
    image: list[str]
    pred: list[str]
    size: list[int]
    scans: Callable[[Path], str]
    fixed: set[str] = field(default_factory=lambda: {"spacing", "patch_size"})
    training: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=lambda: {"folds": 3})
    rough: bool = False
    any_size: bool = False

    def spatial_shape(self) -> list[Any]:
        """What the metadata say of it."""
        return ["16*n"] * 3 if self.any_size else self.size

    def short_training(self) -> dict[str, Any]:
        """Options of a training that takes seconds."""
        short = {"epochs": 1, "iterations_per_epoch": 2, "batch_size": 1, "val_interval": 1}
        return short | self.split | self.training

    def kept(self, folder: Path) -> dict[str, str]:
        """Options that name the folders of what a training keeps for others."""
        names = ("store", "tissue", "rough") if self.bundle == "ms_lesion" else ("store",)
        return {f"{name}_dir": str(folder / name) for name in names}


def unet(inputs: int, outputs: int) -> dict[str, Any]:
    shape = {"in_channels": inputs, "out_channels": outputs, "features": [3, 4, 4, 4, 4, 3]}
    return {"_target_": "mtmed.networks.UNet", **shape, "norm": "instance", "upsample": "deconv"}


def ms_lesion(variant: str) -> Kind:
    inputs = MODALITIES + (TISSUES if variant == "multi_input" else [])
    outputs = ["background", "lesion"] + (["outside", *TISSUES] if variant == "multi_output" else [])
    settings = {
        "variant": variant,
        "label_names": {"0": "background", "1": "lesion"},
        "modalities": MODALITIES,
        "input_channels": inputs,
        "output_channels": outputs,
        "heads": [2, 4] if variant == "multi_output" else [2],
        "spacing": [SPACING] * 3,
        "patch_size": [16, 32, 16],
        "split_key": "patient",
        "brain_mask": False,
        "tissue": "hmrf",
        "tissue_modality": "T1",
        "tissue_table": "mtmed",
        "merged_lesions": "in_sample",
    }
    return Kind(
        bundle="ms_lesion",
        name=f"brain_ms_unet_{variant}_segmentation",
        definition=unet(len(inputs), len(outputs)),
        settings=settings,
        image=inputs,
        pred=outputs,
        size=[16, 32, 16],
        scans=lambda folder: write_brains(folder, patients=3, visits=1),
        training={"rough_epochs": 1},
        rough=variant != "single",
    )


def siamese_kidney(name: str, **options: Any) -> Kind:
    """With a network whose definition says no more than what differs from the default."""
    shape = {"in_channels": 1, "out_channels": 2, "block_layers": [1, 1, 1, 2], "growth": [4, 4, 4, 4]}
    return Kind(
        bundle="siamese_kidney",
        name=name,
        definition={"_target_": "mtmed.networks.DenseUNet", **shape, **options},
        settings={
            "label_names": {"0": "background", "1": "kidney"},
            "modalities": ["CT"],
            "spacing": [10.0, 10.0, 12.0],
            "window": [-80.0, 300.0],
            "part": "half",
            "window_size": [0.5, -1, -1],
            "overlap": 0.0,
            "label_groups": {"kidney": ["kidney", "tumour"]},
            "pretraining": None,
            "split_key": "patient",
        },
        image=["CT"],
        pred=["background", "kidney"],
        size=[32, 16, 48],
        scans=lambda folder: demo_kidney_ct(folder, cases=3),
        fixed={"spacing", "window", "part", "overlap", "label_groups"},
        any_size=True,
    )


def gi_tract(
    name: str,
    *,
    target: str = "SmallUNet",
    features: Sequence[str] = (),
    slice_offsets: Sequence[int] = (0,),
    **shape: Any,
) -> Kind:
    """With a network of slices, which may be told numbers beside the image."""
    organs = ["large_bowel", "small_bowel", "stomach"]
    mean, deviation = [0.5, *[3.5] * len(features)], [0.3, *[0.1] * len(features)]
    told = {"features": list(features), "mean": mean[: len(features)], "deviation": deviation[: len(features)]}
    film = {"film": {**told, "hidden": 4}} if features else {}
    slices = {-2: "MR, slice -2", 0: "MR", 2: "MR, slice +2"}
    return Kind(
        bundle="gi_tract",
        name=name,
        definition={
            "_target_": f"mtmed.networks.{target}",
            "in_channels": len(slice_offsets),
            "out_channels": 3,
            **shape,
            **film,
        },
        settings={
            "organs": organs,
            "label_names": {str(value): organ for value, organ in packed_names(organs).items()},
            "modalities": ["MR"],
            "slice_offsets": list(slice_offsets),
            "image_size": [16, 32],
            "normalise_per": "scan",
            "features": list(features),
            "split_key": "patient",
        },
        image=[*(slices[offset] for offset in slice_offsets), *features],
        pred=organs,
        size=[16, 32],
        scans=lambda folder: demo_abdomen_mr(folder, patients=4),
        fixed={"slice_offsets", "image_size", "normalise_per", "features"},
        training={"batch_size": 2},
        split={"shares": [50, 25, 25]},
    )


def two_stage(name: str, definition: Mapping[str, Any], **settings: Any) -> Kind:
    """A network of slices for chest X-rays, or one of patches for volumes."""
    in_3d = settings["slice_offsets"] is None
    organs = ["liver", "spleen", "left kidney", "right kidney"] if in_3d else ["pneumothorax"]
    modality = "CT" if in_3d else "CR"
    return Kind(
        bundle="two_stage",
        name=name,
        definition={"in_channels": 1, "out_channels": len(organs), **definition},
        settings={
            "organs": organs,
            "label_names": {str(value): organ for value, organ in packed_names(organs).items()},
            "modalities": [modality],
            "normalise_per": "slice",
            "features": [],
            "task": "in_painting",
            "mode": "joint",
            "split_key": "patient",
            **settings,
        },
        image=[modality],
        pred=organs,
        size=settings["patch_size"] or settings["image_size"],
        scans=(
            (lambda folder: demo_abdomen_organs(folder, cases_per_dataset=4))
            if in_3d
            else (lambda folder: demo_chest_xray(folder, labelled=12, unlabelled=2))
        ),
        fixed={"spacing", "patch_size", "normalise_per"} if in_3d else {"image_size", "normalise_per"},
        training={"batch_size": 2},
        # so that every part shows a pneumothorax
        split={"shares": [40, 30, 30]},
    )


KINDS = {
    "mixcl": Kind(
        bundle="mixcl",
        name="abdomen_ct_unetr_segmentation",
        definition={
            "_target_": "mtmed.networks.UNETR",
            "in_channels": 1,
            "out_channels": 5,
            "img_size": [32, 32, 32],
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 32,
            "num_heads": 2,
        },
        settings={
            "label_names": {"0": "background", "1": "liver", "2": "spleen", "3": "left kidney", "4": "right kidney"},
            "modalities": ["CT"],
            "spacing": [8.0, 8.0, 10.0],
            "window": [-150.0, 250.0],
            "patch_size": [32, 32, 32],
            "split_key": "patient",
        },
        image=["CT"],
        pred=["background", "liver", "spleen", "left kidney", "right kidney"],
        size=[32, 32, 32],
        scans=lambda folder: demo_abdomen_organs(folder, cases_per_dataset=3),
    ),
    **{f"ms_lesion {variant}": ms_lesion(variant) for variant in ("single", "multi_input", "multi_output")},
    "siamese_kidney": siamese_kidney("kidney_ct_dense_unet_segmentation"),
    "siamese_kidney paper_order": siamese_kidney(
        "kidney_ct_dense_unet_paper_segmentation", paper_order=True, recompute=True
    ),
    "gi_tract": gi_tract("abdomen_mr_small_unet_segmentation", base_channels=4, depth=2),
    "gi_tract film": gi_tract(
        "abdomen_mr_small_unet_film_segmentation",
        features=["slice_position", "pixel_height"],
        slice_offsets=[-2, 0, 2],
        base_channels=4,
        depth=2,
    ),
    "gi_tract big_unet": gi_tract(
        "abdomen_mr_big_unet_segmentation", target="BigUNet", features=["image_width"], slice_offsets=[0, 0, 0]
    ),
    "two_stage": two_stage(
        "chest_xray_small_unet_segmentation",
        {"_target_": "mtmed.networks.SmallUNet", "base_channels": 4, "depth": 2},
        slice_offsets=[0],
        image_size=[32, 16],
        patch_size=None,
        spacing=None,
    ),
    "two_stage 3d": two_stage(
        "abdomen_ct_unet_segmentation",
        {"_target_": "mtmed.networks.UNet", "features": [3, 4, 4, 4, 4, 3]},
        slice_offsets=None,
        image_size=None,
        patch_size=[16, 32, 16],
        spacing=[10.0, 8.0, 8.0],
    ),
}
SLOW = ("ms_lesion single", "ms_lesion multi_output", "siamese_kidney paper_order", "gi_tract", "two_stage 3d")
HEAVY = ("gi_tract big_unet",)

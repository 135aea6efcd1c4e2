"""Options and studies of the two-stage bundle that cannot be meant end with one line, before any training."""

import sys
from pathlib import Path
from typing import Any

import pytest
from two_stage_inputs import GOOD, HEARTS, in_3d, teacher, written
from two_stage_refusals import CHECKED, FIRST_STEP, NOTHING, BadInput, assert_refused, assert_refused_on_the_terminal


def choice(name: str, value: str, choices: str, **more: Any) -> BadInput:
    """A word that an option does not know."""
    return BadInput(f"unknown {name}", (f"{name}: is '{value}'; choose one of {choices}",), {**more, name: value})


def number(name: str, value: object, said: str, **more: Any) -> BadInput:
    """A number out of range."""
    return BadInput(f"{name} {value}", (said,), {**more, name: value})


def drawn(name: str, value: object, said: str, **more: Any) -> BadInput:
    """A number that the parts of the training refuse, once the data are checked."""
    return BadInput(f"{name} {value}", (said,), {**more, name: value}, files=CHECKED)


CONTRAST = {"task": "momentum_contrast"}
WORDS = (
    choice("task", "inpainting", "none, all, autoencoding, in_painting, jigsaw, momentum_contrast, inner_distance"),
    choice("mode", "first", "joint, pretrained"),
    choice("phase", "all", "segmentation, pretraining"),
    choice("network", "unet", "small_unet, unet3d, unetr, dense_unet"),
    choice("weighting", "sum", "constant, random, gradient_similarity, aggregation"),
    choice("augmentation", "some", "none, all"),
    choice("mask_resizing", "cubic", "nearest, linear"),
    choice("normalise_per", "volume", "slice, scan"),
    BadInput(
        "unknown aggregator",
        ("aggregator: is 'sum'; choose one of ", "upgrad"),
        {"task": "all", "weighting": "aggregation", "aggregator": "sum"},
        files=CHECKED,
    ),
    BadInput("unknown split", ("split key: is 'day'",), {"split_key": "day"}, files=NOTHING),
    BadInput(
        "unknown part",
        ("part: is 'all'; use one of",),
        {"checkpoint": "{}/model.pt", "part": "all"},
        teacher(),
        "evaluate",
    ),
    BadInput("misspelt option", ("tsk: unknown option", "did you mean 'task'?"), {"tsk": "jigsaw"}, files=NOTHING),
    BadInput(
        "several tasks", ("task: is ['jigsaw', 'rotation'], not text",), {"task": ["jigsaw", "rotation"]}, files=NOTHING
    ),
    BadInput("unlabelled in words", ("unlabelled: is 'yes', not True or False",), {"unlabelled": "yes"}, files=NOTHING),
)
COMBINATIONS = (
    *(
        BadInput(
            f"{task} of images without labels",
            (f"task: {task} needs the labels of the images that it learns from; use --task rotation, which needs",),
            {"task": task, "unlabelled": True},
        )
        for task in ("inner_distance", "outer_distance", "contour")
    ),
    BadInput(
        "images for no task",
        ("unlabelled: names images for an auxiliary task, and there is none; choose a --task, or leave it out",),
        {"task": "none", "unlabelled": True},
    ),
    BadInput(
        "weighting of nothing",
        ("weighting: has nothing to weigh, since no auxiliary task trains with the segmentation",),
        {"task": "none", "weighting": "random"},
    ),
    BadInput(
        "weighting of a task that is trained before",
        ("weighting: has nothing to weigh", "choose a --task and --mode joint"),
        {"task": "jigsaw", "mode": "pretrained", "weighting": "aggregation"},
    ),
    BadInput(
        "two views that are the same",
        ("augmentation: is none, so the two views that vicreg compares would be the same; use --augmentation all",),
        {"task": "vicreg", "augmentation": "none"},
    ),
    BadInput(
        "variance of one image",
        ("batch_size: is 1, and one image has no variance, which vicreg needs; give 2 or more",),
        {"task": "vicreg", "batch_size": 1},
    ),
)
NUMBERS = (
    number("batch_size", 0, "batch_size: is [0]; give 1 whole number of 1 or more"),
    number("batch_size", -2, "batch_size: is [-2]"),
    number("val_interval", 0, "val_interval: is [0]; give 1 whole number of 1 or more"),
    number("pretraining_epochs", 0, "pretraining_epochs: is [0]", task="jigsaw", mode="pretrained"),
    number("seed", -1, "seed: is [-1]; give 1 whole number of 0 or more"),
    number("member", 0.5, "member: is [0.5]; give 1 whole number of 0 or more"),
    number("image_size", [16], "image_size: is [16]; give 2 whole numbers of 16 or more"),
    number("image_size", [16, 16, 16], "image_size: is [16, 16, 16]; give 2 whole numbers"),
    number("image_size", [8, 8], "image_size: is [8, 8]"),
    number("patch_size", [16, 16], "patch_size: is [16, 16]; give 3 whole numbers of 8 or more"),
    number("auxiliary_weight", -1.0, "auxiliary_weight: is [-1.0]; give 1 number of 0 or more"),
    drawn("contrast_temperature", 0, "temperature: is 0; give a positive number", **CONTRAST),
    drawn("queue_size", 0, "queue: is 0; give a whole number from 1", **CONTRAST),
    drawn("momentum", 1.0, "momentum: is 1.0; give a number from 0 and below 1", **CONTRAST),
    drawn("train#tasks#in_painting#side", 1.5, "side: is 1.5; give the block's share of the image's side"),
    drawn("train#tasks#in_painting#side", 0, "side: is 0; give the block's share"),
    drawn("train#tasks#jigsaw#grid", 0, "grid: is 0; give the number of cells along an axis", task="jigsaw"),
    drawn("train#tasks#jigsaw#grid", 40, "grid: has 1600 cells; give a grid of 2 to 9 cells", task="jigsaw"),
    drawn("train#tasks#jigsaw#permutations", 25, "permutations: is 25, 4 cells have 24 orders", task="jigsaw"),
    drawn("network_defs#small_unet#depth", 5, "image_size: is [16, 16], too small for 6 levels of the network"),
    drawn("network_defs#small_unet#out_channels", 3, "out_channels: is 3, the data have 1"),
    drawn("foreground_probability", 2, "foreground_probability: is 2, allowed is 0 to 1"),
    drawn("foreground_prior", 0, "foreground_prior: is 0; give a probability between 0 and 1, or none"),
    drawn("patience", -1, "patience: is -1; give a whole number of epochs"),
    BadInput("image size that is no list", ("image_size: is 16, not a list",), {"image_size": 16}, files=NOTHING),
    BadInput("two shares", ("shares: are [50, 50]; give three percentages",), {"shares": [50, 50]}, files=NOTHING),
    BadInput("shares beyond 100", ("shares: are [70, 20, 20]",), {"shares": [70, 20, 20]}, files=NOTHING),
    BadInput("fold that is not there", ("fold: is 9; use a whole number from 0 to 3",), {"fold": 9}, files=NOTHING),
    BadInput("fraction 0", ("fraction: is 0; give a percentage above 0",), {"fraction": 0}, files=NOTHING),
    BadInput("fraction 200", ("fraction: is 200; give a percentage",), {"fraction": 200}, files=NOTHING),
    BadInput("no iteration", ("epochs and iterations_per_epoch: give 0",), {"epochs": 0}, files=NOTHING),
)
JIGSAW = {"task": "jigsaw"}
IN_3D = (
    BadInput(
        "patches too small for the network",
        ("patch_size: is [16, 16, 16], too small for the 5 levels of the network; give sides of 32 or more",),
        in_3d("unet3d", patch_size=[16, 16, 16]),
        HEARTS,
        files=CHECKED,
    ),
    BadInput(
        "patches of another size than the network's",
        ("patch_size: is [32, 32, 32], the network takes [16, 32, 32]; give both the same size",),
        in_3d("unetr", **{"network_defs#unetr#img_size": [16, 32, 32]}),
        HEARTS,
        files=CHECKED,
    ),
    BadInput(
        "spacing of two axes",
        ("spacing: is [1.0, 1.0]; give 3 numbers of 0.01 or more",),
        in_3d("unet3d", spacing=[1.0, 1.0]),
        HEARTS,
    ),
    BadInput(
        "jigsaw of more cells than UNETR has voxels",
        ("patch_size: leaves 1 x 1 x 1 voxels on the coarsest feature map, the grid has 2 x 2 x 2 cells; give larger",),
        in_3d("unetr", patch_size=[16, 16, 16], **JIGSAW),
        HEARTS,
        files=CHECKED,
    ),
    BadInput(
        "jigsaw of more cells than the network has pixels",
        (" voxels on the coarsest feature map, the grid has 2 x 2 cells; give larger patches",),
        {"network_defs#small_unet#depth": 4, **JIGSAW},
        files=FIRST_STEP,
    ),
    BadInput(
        "patches that UNETR does not take",
        ("network_def: img_size is [16, 16, 24]; give 3 sides, each a multiple of 16; correct the arguments of",),
        in_3d("unetr", patch_size=[16, 16, 24]),
        HEARTS,
        files=CHECKED,
    ),
)
PAPER = {"scale": "paper", "dataset_dir": None}
STUDIES = tuple(
    BadInput(name, said, given, prepare, "run", NOTHING)
    for name, said, given, prepare in (
        ("unknown scale", ("scale: is 'big'; choose one of demo, paper",), {"scale": "big"}, GOOD),
        ("no images for the paper's scale", ("scale: is paper, and ", "; give --dataset_dir"), PAPER, GOOD),
        ("option of a step", ("epochs: unknown option", "see the keys on top of"), {"epochs": 2}, GOOD),
        ("misspelt option of the method", ("scal: unknown option", "did you mean 'scale'?"), {"scal": "demo"}, GOOD),
        ("settings that are text", ("settings: is 'epochs=3', not a dictionary",), {"settings": "epochs=3"}, GOOD),
        (
            "misspelt setting",
            ("--set: epoch: no step's config has such a key; did you mean 'epochs'?",),
            {"settings": {"epoch": 3}},
            GOOD,
        ),
        (
            "setting of no step",
            ("--set tran.epochs: there is no step 'tran'; did you mean 'train'?",),
            {"settings": {"tran.epochs": 3}},
            GOOD,
        ),
        (
            "folder of images among the settings",
            ("settings: has data, the folder of the images; give it as --dataset_dir",),
            {"settings": {"data": "{}/cohort"}},
            GOOD,
        ),
        ("no folder of images", ("{}/nowhere: no such file or folder",), {"dataset_dir": "{}/nowhere"}, GOOD),
        ("no job at once", ("jobs_at_once: is [0]; give 1 whole number",), {"jobs_at_once": 0}, GOOD),
        ("cluster in words", ("slurm: is not a dictionary; ",), {"slurm": "timeout_min=600"}, GOOD),
        ("overlays that are no list", ("overlays: is not a list; ",), {"overlays": "{}/more.json"}, GOOD),
        ("overlay that is not there", ("{}/more.json: cannot be read",), {"overlays": ["{}/more.json"]}, GOOD),
        (
            "overlay that is no JSON",
            ("{}/more.json: is not JSON",),
            {"overlays": ["{}/more.json"]},
            written("more.json", "{"),
        ),
        (
            "overlay of an unknown key",
            ("arm: unknown key; did you mean 'arms'?",),
            {"overlays": ["{}/more.json"]},
            written("more.json", {"arm": {}}),
        ),
        (
            "choice of an arm that is not there",
            ("choices::jigsaw::among: has 'jigsaw_joint_99', not an arm; did you mean",),
            {"overlays": ["{}/more.json"]},
            written("more.json", {"choices::jigsaw::among": ["jigsaw_joint_01", "jigsaw_joint_99"]}),
        ),
        (
            "misspelt option of an arm",
            ("arms::jigsaw_joint_01::train: auxiliary_wight: stage1.json has no such key",),
            {"overlays": ["{}/more.json"]},
            written("more.json", {"arms::jigsaw_joint_01::train::auxiliary_wight": 0.2}),
        ),
    )
)
BAD = WORDS + COMBINATIONS + NUMBERS + IN_3D + STUDIES


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_options_end_with_one_line_before_any_training(bad: BadInput, tmp_path: Path) -> None:
    assert_refused(bad, tmp_path)


def test_aggregators_without_their_package_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    said = ("torchjd: is not installed; ", 'pip install "mtmed[balancing]"')
    assert_refused(BadInput("", said, {"task": "all", "weighting": "aggregation"}, files=CHECKED), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_options_leave_one_line_on_the_terminal(bad: BadInput, tmp_path: Path) -> None:
    assert_refused_on_the_terminal(bad, tmp_path)

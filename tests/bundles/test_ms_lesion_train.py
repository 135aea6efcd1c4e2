"""The training config of the MS bundle as it stands, at a scale of seconds."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from ms_lesion_runs import paint_brain, write_brains
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.bundle.messages import mendable
from mtmed.losses import GeneralisedDiceLoss
from mtmed.networks.weights import load_weights

VARIANTS = ("single", "multi_input", "multi_output")
TERMS = ["lesion_dice", "lesion_true_positive_rate"]


@pytest.fixture
def resolved(ms_config, ms_options, tmp_path):
    """Parser of a variant's config with overlays and overrides; nothing runs."""

    def parse(variant, *overlays, **more):
        parser = ConfigParser()
        parser.read_config(ms_config("train", *overlays))
        parser.update(ms_options(variant, output_dir=str(tmp_path / "parsed"), **more))
        return parser

    return parse


@pytest.fixture
def refused(train_ms):
    """The one line that a training ends with."""

    def start(variant, **more):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            train_ms(variant, **more)
        error = mendable(caught.value)
        assert error is not None, caught.value
        assert "\n" not in str(error)
        return str(error)

    return start


def table(folder):
    return list(csv.DictReader((folder / "losses.csv").open(newline="")))


def test_variants_share_everything_but_what_the_paper_changes(resolved):
    parsers = {variant: resolved(variant) for variant in VARIANTS}
    configs = [{**parser.get(), "variant": "any"} for parser in parsers.values()]
    assert configs[0] == configs[1] == configs[2]
    found = {}
    for variant, parser in parsers.items():
        get = parser.get_parsed_content
        network, model = get("network"), get("train#multi_task_model")
        settings = dict(get("settings"))
        assert settings.pop("variant") == variant
        for name in ("input_channels", "output_channels", "heads"):
            del settings[name]
        found[variant] = {
            "channels": (network.in_channels, network.final_conv.out_channels),
            "tasks": {task.name: list(task.losses) for task in model.tasks.values()},
            "settings": settings,
            "split": [case.key for name in ("training_cases", "validation_cases") for case in get(name)],
            "optimiser": {k: v for k, v in get("train#optimizer").param_groups[0].items() if k != "params"},
            "draw": vars(get("train#draw")),
            "between": {
                name: tuple(value.shape)
                for name, value in network.state_dict().items()
                if not name.startswith(("conv_0.conv_0.conv.", "final_conv."))
            },
        }
    assert {variant: facts.pop("channels") for variant, facts in found.items()} == {
        "single": (3, 2),
        "multi_input": (6, 2),
        "multi_output": (3, 6),
    }
    assert {variant: facts.pop("tasks") for variant, facts in found.items()} == {
        "single": {"lesion": TERMS},
        "multi_input": {"lesion": TERMS},
        "multi_output": {"lesion": TERMS, "tissue": ["tissue_dice"]},
    }
    assert found["single"] == found["multi_input"] == found["multi_output"]


def test_each_loss_has_its_column_and_its_curve(trained_ms):
    terms = {"single": TERMS, "multi_input": TERMS, "multi_output": [*TERMS, "tissue_dice"]}
    for variant, names in terms.items():
        folder = trained_ms(variant)
        rows = table(folder)
        assert list(rows[0]) == ["iteration", "loss", *names, "learning_rate"]
        assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4]
        for row in rows:
            assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in names), rel=1e-5)
        events = EventAccumulator(str(folder)).Reload()
        curves = {tag for tag in events.Tags()["scalars"] if tag.startswith("loss/")}
        assert curves == {f"loss/{name}" for name in ("total", *names)}
        assert "validation/mean_dice" in events.Tags()["scalars"]


def test_run_leaves_everything_that_is_promised(trained_ms):
    folder = trained_ms("multi_output")
    content = load_weights(folder / "model.pt")
    settings = content["settings"]
    assert settings["variant"] == "multi_output"
    assert settings["input_channels"] == settings["modalities"] == ["FLAIR", "T1", "T2"]
    assert settings["output_channels"][:2] == ["background", "lesion"]
    assert (settings["heads"], len(settings["output_channels"])) == ([2, 4], 6)
    assert (settings["spacing"], settings["patch_size"]) == ([4.0, 4.0, 4.0], [16, 32, 16])
    assert content["network_def"]["in_channels"] == 3
    assert content["network_def"]["out_channels"] == 6
    assert load_weights(folder / "rough.pt")["settings"]["variant"] == "single"
    assert not (trained_ms("single") / "rough.pt").exists()
    assert "inference.json --checkpoint" in (folder / "log.txt").read_text().splitlines()[-1]
    assert [path.name for path in folder.glob(".*")] == [".run.lock"]


def test_true_positive_rate_of_weight_0_is_left_out(train_ms):
    rows = table(train_ms("single", true_positive_rate_weight=0, epochs=1))
    assert list(rows[0]) == ["iteration", "loss", "lesion_dice", "learning_rate"]
    assert all(row["loss"] == row["lesion_dice"] for row in rows)


def test_weights_of_the_terms_reach_the_loss(train_ms):
    given = {"tissue": "files", "merged_lesions": "none", "epochs": 1}
    (row, *_) = table(train_ms("multi_output", true_positive_rate_weight=0.25, tissue_weight=3.0, **given))
    dice, missed, tissue = (float(row[name]) for name in (*TERMS, "tissue_dice"))
    assert float(row["loss"]) == pytest.approx(dice + 0.25 * missed + 3 * tissue, rel=1e-5)


@pytest.fixture
def shares(monkeypatch):
    """Targets that the Dice loss was given."""
    seen = []
    loss = GeneralisedDiceLoss.forward

    def forward(self, logits, target):
        seen.append(target.clone())
        return loss(self, logits, target)

    monkeypatch.setattr(GeneralisedDiceLoss, "forward", forward)
    return seen


def test_two_raters_reach_the_loss_as_shares(train_ms, shares):
    train_ms("single", epochs=1, iterations_per_epoch=4, foreground_probability=1.0)
    assert all(target.shape[1] == 2 for target in shares)
    assert set(torch.cat([target.flatten() for target in shares]).tolist()) == {0.0, 0.5, 1.0}
    assert all(torch.equal(target.sum(1), torch.ones_like(target[:, 0])) for target in shares)


def test_one_rater_alone_is_taken_as_drawn(train_ms, shares, tmp_path):
    voxels = []
    for rater in (1, 2):
        folder = str(tmp_path / f"rater{rater}")
        train_ms("single", rater=rater, epochs=1, foreground_probability=1.0, output_dir=folder)
        assert all(target.shape[1] == 1 for target in shares)
        assert set(torch.cat([target.flatten() for target in shares]).tolist()) == {0, 1}
        voxels.append(sum(int(target.sum()) for target in shares))
        shares.clear()
    # the second rater draws two thirds
    assert voxels[1] < voxels[0]


def test_rater_who_is_not_there_is_refused(refused):
    assert "the cohort has 2" in refused("single", rater=3)


def test_modalities_may_be_left_out_and_reordered(resolved, train_ms):
    get = resolved("single", modalities=["T2", "FLAIR"]).get_parsed_content
    stored = [get("train#store").build([case])[0] for case in get("training_cases")[:2]]
    every = resolved("single").get_parsed_content
    for volume, whole in zip(stored, every("train#store").build(every("training_cases")[:2]), strict=True):
        ours = volume.crop((0, 0, 0), volume.shape)["image"]
        theirs = whole.crop((0, 0, 0), whole.shape)["image"]
        assert np.array_equal(ours, theirs[[2, 0]])
    content = load_weights(train_ms("single", modalities=["T2", "FLAIR"]) / "model.pt")
    assert content["settings"]["modalities"] == ["T2", "FLAIR"]
    assert content["network_def"]["in_channels"] == 2


def test_t1_that_tissue_needs_must_be_among_the_modalities(refused):
    assert "tissue_modality: is 'T1'; choose one of FLAIR, T2" in refused("multi_output", modalities=["FLAIR", "T2"])


def test_unknown_modality_is_refused_with_the_nearest(refused):
    assert "did you mean 'FLAIR'?" in refused("single", modalities=["FLAR", "T1"])


@pytest.fixture
def holes(tmp_path):
    """A cohort whose first case has no T2."""
    return write_brains(tmp_path / "holes", lacking={"p0_0": ["T2"]})


def test_missing_modality_is_refused_by_the_name_of_the_case(refused, holes):
    line = refused("single", dataset_dir=holes)
    assert "Toy_MS/p0_0: has no T2" in line
    assert "--allow_missing true" in line


def test_missing_modality_may_be_allowed(resolved, train_ms, holes):
    given = {"dataset_dir": holes, "allow_missing": True}
    get = resolved("single", fold="none", **given).get_parsed_content
    (lacking,) = (case for case in get("training_cases") if case.id == "p0_0")
    image = get("train#store").build([lacking])[0].crop((0, 0, 0), (24, 36, 22))["image"]
    assert not image[2].any()
    assert image[:2].any((1, 2, 3)).all()
    for parse, share in ((get, 0.2), (resolved("single").get_parsed_content, 0.0)):
        intensity = {type(one).__name__: one.probability for one in parse("train#views").intensity}
        assert intensity["ModalityDropout"] == share
    assert len(table(train_ms("single", fold="none", **given))) == 4


def test_brain_mask_takes_away_what_lies_outside(resolved, tmp_path, train_ms):
    import nibabel as nib

    folder = write_brains(tmp_path / "heads", patients=3)
    for path in Path(folder, "images").iterdir():
        image = nib.load(path)
        # skull and air
        voxels = np.where(image.get_fdata() == 0, 77, image.get_fdata()).astype(np.int16)
        nib.Nifti1Image(voxels, image.affine).to_filename(path)
    given = {"dataset_dir": folder, "folds": 3, "brain_mask": True}
    get = resolved("single", **given).get_parsed_content
    case = get("training_cases")[0]
    image = get("train#store").build([case])[0].crop((0, 0, 0), (24, 36, 22))["image"]
    tissue, _ = paint_brain(int(case.group[1:]), int(case.visit))
    assert not image[:, tissue == 0].any()
    assert np.abs(image[:, tissue > 0].mean(1)).max() < 0.01
    folder = train_ms("single", epochs=1, **given)
    assert load_weights(folder / "model.pt")["settings"]["brain_mask"] is True


def test_without_folds_all_cases_train_and_the_last_network_is_kept(resolved, train_ms):
    get = resolved("single", fold="none").get_parsed_content
    assert len(get("training_cases")) == 10
    assert get("validation_cases") == []
    folder = train_ms("single", fold="none")
    assert (folder / "last.pt").is_file()
    assert not (folder / "model.pt").exists()
    assert f"Model: {folder}/last.pt" in (folder / "log.txt").read_text()
    assert "mean_dice" not in (folder / "log.txt").read_text()


def test_patients_stay_together(resolved):
    for fold in range(5):
        get = resolved("single", fold=fold).get_parsed_content
        groups = [{case.group for case in get(name)} for name in ("training_cases", "validation_cases")]
        assert (len(groups[0]), len(groups[1])) == (4, 1)
        assert not groups[0] & groups[1]


@pytest.mark.parametrize(("option", "value"), [("variant", "both"), ("tissue", "spm")])
def test_unknown_choice_is_refused(option, value, ms_options, tmp_path, refused):
    given = {option: value}
    assert f"{option}: is '{value}'; choose one of" in refused(given.pop("variant", "single"), **given)


def test_same_seed_gives_the_same_losses_and_another_seed_others(train_ms, trained_ms, tmp_path):
    first = (trained_ms("single") / "losses.csv").read_text()
    assert (train_ms("single", workers=2) / "losses.csv").read_text() == first
    assert (train_ms("single", seed=1, output_dir=str(tmp_path / "other")) / "losses.csv").read_text() != first


# option -> (value, entry of the config, where in the entry it must arrive)
KNOBS = {
    "precision": ("bfloat16", "train#trainer", lambda t: str(t.dtype).removeprefix("torch.")),
    "workers": (1, "train#dataloader", lambda loader: loader.num_workers),
    "epochs": (3, "train#trainer", lambda t: t.state.max_epochs),
    "iterations_per_epoch": (5, "train#trainer", lambda t: t.state.epoch_length),
    "batch_size": (3, "train#dataloader", lambda loader: loader.batch_sampler.batch_size),
    "learning_rate": (0.004, "train#optimizer", lambda o: o.param_groups[0]["lr"]),
    "true_positive_rate_weight": (0.3, "train#weighting", lambda w: w.weights["lesion_true_positive_rate"]),
    "tissue_weight": (0.4, "train#weighting", lambda w: w.weights["tissue_dice"]),
    "flip_axes": ([1, 2], "train#views", lambda v: list(v.geometry.operations[0].axes)),
    "spacing": ([5.0, 5.0, 6.0], "train#preprocessing#transforms#2", lambda t: list(t.spacing_transform.pixdim)),
    "patch_size": ([32, 16, 16], "train#draw", lambda d: list(d.patch_size)),
    "foreground_probability": (0.7, "train#draw", lambda d: d.foreground_probability),
    "overlap": (0.25, "validate#inferer", lambda i: i.overlap),
    "window_batch_size": (2, "validate#inferer", lambda i: i.sw_batch_size),
    "network_def#features": ([4, 4, 4, 4, 4, 4], "network", lambda n: n.level_channels[0]),
}


def test_every_knob_reaches_its_object(resolved):
    overrides = {name: value for name, (value, _, _) in KNOBS.items()}
    parser = resolved("single", seed=4, augmentation_probability=0.3, modality_dropout=0.4, **overrides)
    for name, (value, entry, arrived) in KNOBS.items():
        wanted = 4 if name.startswith("network_def") else value
        assert arrived(parser.get_parsed_content(entry)) == wanted, name
    views = parser.get_parsed_content("train#views")
    probabilities = {type(op).__name__: op.probability for op in (*views.geometry.operations, *views.intensity)}
    assert probabilities == {"Flip": 0.3, "IntensityScale": 0.3, "GaussianNoise": 0.3, "ModalityDropout": 0.4}
    assert parser.get_parsed_content("train#trainer").seed == 4
    assert parser.get_parsed_content("train#dataset").seed == 4


def test_paper_overlay_has_the_published_settings(ms_config, brains):
    parser = ConfigParser()
    parser.read_config(ms_config("train", "paper"))
    parser.update({"dataset_dir": brains["data"], "device": "cpu", "output_dir": "nowhere"})

    def value(name):
        return parser.get_parsed_content(name)

    assert (value("epochs"), value("rough_epochs")) == (100, 100)
    assert value("learning_rate") == 5e-4
    assert value("patch_size") == [64, 64, 64]
    assert value("spacing") == [1.0, 1.0, 1.0]
    assert value("foreground_probability") == 0.5
    assert (value("true_positive_rate_weight"), value("tissue_weight")) == (1.0, 1.0)
    assert value("augmentation_probability") == 0.0
    assert value("merged_lesions") == "out_of_fold"
    network = value("network")
    assert network.level_channels == [16, 32, 64, 128, 256]
    assert isinstance(value("train#optimizer"), torch.optim.Adam)


def test_paper_overlay_runs_shrunk(train_ms, ms_config):
    folder = train_ms("multi_output", *ms_config("paper"), tissue="files", merged_lesions="none", epochs=1)
    executed = json.loads((folder / "config.json").read_text())
    assert (executed["learning_rate"], executed["augmentation_probability"]) == (0.0005, 0.0)
    assert executed["patch_size"] == [16, 32, 16]
    assert (folder / "model.pt").is_file()

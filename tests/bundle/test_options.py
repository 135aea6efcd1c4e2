"""Unknown options are refused, with the nearest known one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtmed.bundle.messages import mendable

RunToy = Callable[..., list[Any]]


def message(run_toy: RunToy, *overlays: dict[str, Any], **overrides: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        run_toy(*overlays, **overrides)
    found = mendable(caught.value)
    assert found is not None, caught.value
    return str(found)


def test_a_misspelt_option_is_refused_with_a_suggestion(run_toy: RunToy) -> None:
    assert message(run_toy, epoch=5) == ("epoch: unknown option (from the command line); did you mean 'epochs'?")


def test_a_misspelt_option_of_an_overlay_names_the_overlay(run_toy: RunToy) -> None:
    text = message(run_toy, {"witdh": 48})
    assert "config_1.json" in text
    assert "did you mean 'width'" in text


def test_a_misspelt_argument_of_a_component_is_refused(run_toy: RunToy) -> None:
    assert "did you mean 'network_def::feature_size'" in message(run_toy, **{"network_def#feature_sise": 8})


def test_a_misspelt_option_of_an_args_file_is_refused(run_toy: RunToy, tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text('{"epoch": 5}')
    assert "did you mean 'epochs'" in message(run_toy, args_file=str(tmp_path / "args.json"))


def test_known_options_reach_the_run(run_toy: RunToy) -> None:
    _, network = run_toy(width=48, **{"network_def#feature_size": 8})
    assert network.definition["hidden_size"] == 48
    assert network.definition["feature_size"] == 8


def test_an_argument_that_the_class_takes_is_known_though_the_config_leaves_it_out(run_toy: RunToy) -> None:
    _, network = run_toy(**{"network_def#dropout_rate": 0.25})
    assert network.definition["dropout_rate"] == 0.25


def test_the_source_of_an_unknown_option_is_named(run_toy: RunToy, tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text('{"epoch": 5}')
    assert f"(from {tmp_path / 'args.json'})" in message(run_toy, args_file=str(tmp_path / "args.json"))
    assert "(from the command line)" in message(run_toy, args_file=str(tmp_path / "args.json"), epoch=6)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("hidden_size", "width"),  # the argument only passes on the key on top
        ("feature_size", "network_def::feature_size"),
        ("network_def#hidden_siz", "width"),
        ("network_def#dropout", "network_def::dropout_rate"),  # the config leaves the argument out
        ("weights#dise", "weights::dice"),
    ],
)
def test_the_suggestion_is_the_key_to_turn(run_toy: RunToy, asked: str, meant: str) -> None:
    assert message(run_toy, **{asked: 1}).endswith(f"; did you mean {meant!r}?")


def test_what_resembles_nothing_points_to_the_config(run_toy: RunToy) -> None:
    assert message(run_toy, zzz=1).endswith("config_0.json")


def test_keys_of_a_plain_dictionary_are_the_users_own(run_toy: RunToy) -> None:
    run_toy(**{"weights#boundary": 0.5})
    run_toy({"+weights": {"boundary": 0.5}})


def test_unknown_keys_of_a_dictionary_that_replaces_one_are_refused(run_toy: RunToy) -> None:
    definition = {"_target_": "mtmed.networks.UNETR", "in_channels": 1, "out_channel": 2}
    assert "network_def::out_channel: unknown option" in message(run_toy, {"network_def": definition})
    assert "network_def::out_channel: unknown option" in message(run_toy, {"+network_def": {"out_channel": 2}})


def test_arguments_of_monais_components_by_their_short_names_are_checked(run_toy: RunToy) -> None:
    table = {"table": {"_target_": "DiceLoss", "softmx": True}}
    assert message(run_toy, table).endswith("did you mean 'table::softmax'?")


def test_what_monai_reads_only_when_it_tracks_is_unknown_otherwise(run_toy: RunToy) -> None:
    assert "run_name: unknown option" in message(run_toy, run_name="a")


def test_tracking_brings_its_options_and_keeps_the_folder_of_the_run(run_toy: RunToy, tmp_path: Path) -> None:
    tracked = run_toy(tracking="mlflow", run_name="a", save_execute_config=False)
    assert tracked[0] == run_toy()[0]
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("epochs", "many", "a number"),
        ("epochs", True, "a number"),
        ("epochs", [5], "a number"),
        ("new", "false", "True or False"),
        ("new", 1, "True or False"),
        ("bundle_root", 5, "text"),
        ("network_def", 16, "a dictionary"),
        ("network_def#img_size", 16, "a list"),
        ("network_def#img_size", [16, 16, "x"], "a list of numbers"),
    ],
)
def test_a_value_of_another_kind_is_refused(run_toy: RunToy, key: str, value: Any, kind: str) -> None:
    text = message(run_toy, **{key: value})
    remedy = "set its keys one by one" if kind == "a dictionary" else "its default is "
    assert f"is {value!r}, not {kind} (from the command line); {remedy}" in text


@pytest.mark.parametrize(("key", "value"), [("epochs", 3), ("epochs", "$1 + 1"), ("epochs", "@width"), ("new", "true")])
def test_numbers_expressions_references_and_true_are_accepted(run_toy: RunToy, key: str, value: Any) -> None:
    assert len(run_toy(**{key: value})) == 2


def test_a_list_of_words_on_top_names_its_choices(run_toy: RunToy) -> None:
    base = {"parts": ["encoder", "decoder"], "table": {"_target_": "builtins.dict", "parts": "@parts"}}
    assert len(run_toy({"parts": ["decoder"]}, main=base)) == 2
    text = message(run_toy, {"parts": ["decodr"]}, main=base)
    assert "parts: is ['decodr'], not a list of encoder, decoder" in text


def test_the_run_list_may_be_replaced(run_toy: RunToy) -> None:
    assert run_toy(run=["$mtmed.bundle.start_run(@output_dir)", "$@sink.append(@epochs)"]) == [2]


def test_a_key_that_stands_twice_is_refused(run_toy: RunToy, tmp_path: Path) -> None:
    run_toy()
    overlay = tmp_path / "twice.json"
    overlay.write_text('{"epochs": 1, "epochs": 2}')
    from monai.bundle.scripts import run

    with pytest.raises(RuntimeError) as caught:
        run(config_file=[str(tmp_path / "config_0.json"), str(overlay)], sink=0)
    assert "epochs: the key stands twice" in str(mendable(caught.value))


def test_items_that_an_overlay_adds_to_a_list_are_checked_as_what_they_are(run_toy: RunToy) -> None:
    main = {"networks": [{"_target_": "mtmed.networks.UNETR", "in_channels": 1}]}
    added = {"_target_": "mtmed.networks.UNet", "in_channels": 1, "features": [4, 4, 4, 4, 4, 4]}
    assert run_toy({"+networks": [added]}, main=main)
    text = message(run_toy, {"+networks": [{**added, "feature": 3}]}, main=main)
    assert text.startswith("networks::1::feature: unknown option")
    assert "did you mean 'networks::1::features'" in text

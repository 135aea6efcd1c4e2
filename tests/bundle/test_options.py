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


def test_a_key_that_stands_twice_is_refused(run_toy: RunToy, tmp_path: Path) -> None:
    run_toy()
    overlay = tmp_path / "twice.json"
    overlay.write_text('{"epochs": 1, "epochs": 2}')
    from monai.bundle.scripts import run

    with pytest.raises(RuntimeError) as caught:
        run(config_file=[str(tmp_path / "config_0.json"), str(overlay)], sink=0)
    assert "epochs: the key stands twice" in str(mendable(caught.value))

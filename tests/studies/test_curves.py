"""Curves of losses and validation Dice."""

import numpy as np
import pytest
from finished_runs import write_training

from mtmed.studies.curves import Curve, curve_figure, mean_curve, read_loss, read_validation_dice


def _curve(values, first=1):
    return Curve(np.arange(first, first + len(values), dtype=float), np.asarray(values, float))


@pytest.mark.parametrize("metric", ["mean_dice", "slice_dice", "scan_dice"])
def test_losses_and_validation_dice_of_a_run_are_read(tmp_path, metric):
    folder = write_training(tmp_path, [2.0, 1.5, float("nan"), 1.0], {2: 0.25, 4: 0.5}, metric)
    loss, dice = read_loss(folder), read_validation_dice(folder)
    assert loss.steps.tolist() == [1, 2, 4]
    assert loss.values.tolist() == [2.0, 1.5, 1.0]
    assert dice.steps.tolist() == [2, 4]
    assert dice.values.tolist() == [0.25, 0.5]


def test_half_written_last_row_and_missing_files(tmp_path):
    folder = write_training(tmp_path / "cut", [2.0, 1.5], {})
    with open(folder / "losses.csv", "a") as file:
        file.write("3,1.")
    assert read_loss(folder).steps.tolist() == [1, 2]
    (tmp_path / "none").mkdir()
    assert not len(read_loss(tmp_path / "none").steps)
    assert not len(read_validation_dice(folder).steps)
    assert not len(read_validation_dice(tmp_path / "none").steps)


def test_resumed_run_shows_only_what_was_logged_after_its_checkpoint(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    write_training(tmp_path, [1.0] * 6, {2: 0.1, 4: 0.2, 6: 0.3})
    with SummaryWriter(str(tmp_path), purge_step=5, filename_suffix=".resumed") as events:
        events.add_scalar("validation/mean_dice", 0.9, 6)
    dice = read_validation_dice(tmp_path)
    assert dice.steps.tolist() == [2, 4, 6]
    assert dice.values == pytest.approx([0.1, 0.2, 0.9])


def test_mean_runs_over_what_all_runs_cover():
    mean = mean_curve([_curve([1, 2, 3, 4]), Curve(np.array([2.0, 4.0, 6.0]), np.array([4.0, 8.0, 0.0]))])
    assert mean.steps.tolist() == [2, 3, 4]
    assert mean.values.tolist() == [3.0, 4.5, 6.0]
    assert not len(mean_curve([_curve([1, 2]), _curve([1, 2], first=5)]).steps)


def test_an_arm_has_one_colour_a_mean_line_and_two_lines_per_run():
    losses = {"a": [_curve([3, 2, 1]), _curve([4, 2, 1])], "b": [_curve([5, 4, 3])], "c": []}
    figure = curve_figure(losses, {arm: [] for arm in losses}, title="Training")
    panel, empty = figure.axes
    assert [line.get_color() for line in panel.lines] == [panel.lines[0].get_color()] * 5 + [
        panel.lines[5].get_color()
    ] * 3
    assert panel.lines[0].get_color() != panel.lines[5].get_color()
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a (2 runs)", "b (1 run)"]
    assert panel.lines[4].get_ydata().tolist() == [3.5, 2.0, 1.0]
    assert "not recorded" in [text.get_text() for text in empty.texts]


@pytest.mark.parametrize(
    ("validations", "dice"), [(80, "mean of the last 4 validations"), (20, "none, too few validations")]
)
def test_each_panel_says_how_it_is_smoothed(validations, dice):
    panels = curve_figure({"a": [_curve([3, 2])]}, {"a": [_curve(np.ones(validations))]}, title="").axes
    assert [panel.get_title() for panel in panels] == [
        "smoothing: exponential, over a fiftieth of each run",
        f"smoothing: {dice}",
    ]


def test_single_spikes_do_not_set_the_scale_and_long_curves_are_thinned():
    values = np.linspace(1, 0.2, 5000)
    values[0] = 1e6
    panel = curve_figure({"a": [_curve(values)]}, {"a": [_curve([0.1, 0.5])]}, title="").axes[0]
    assert panel.get_ylim()[1] < 1.2
    assert max(len(line.get_xdata()) for line in panel.lines) <= 400
    assert panel.lines[0].get_xdata()[-1] == 5000


def test_a_single_value_is_a_dot():
    figure = curve_figure({"a": [_curve([3, 2])]}, {"a": [_curve([0.5], first=2)]}, title="")
    assert {line.get_marker() for line in figure.axes[0].lines} == {""}
    assert {line.get_marker() for line in figure.axes[1].lines} == {"o"}


def test_a_dashed_line_is_where_the_reference_ends_and_a_diamond_where_an_arm_first_comes_there():
    dice = {
        "scratch": [_curve(np.linspace(0, 0.4, 80)), _curve(np.linspace(0, 0.6, 80))],
        "early": [_curve(np.linspace(0, 0.9, 80))],
        "never": [_curve(np.full(80, 0.1))],
        "silent": [],
    }
    panels = curve_figure({arm: [] for arm in dice}, dice, title="", reference_arm="scratch").axes
    dashed = next(line for line in panels[1].lines if line.get_linestyle() == "--")
    target = 0.5 - 0.5 * 1.5 / 79  # the mean of the last 4 of 80 validations
    assert list(dashed.get_ydata()) == pytest.approx([target] * 2)
    assert "final Dice of scratch (diamond: reached)" in [
        text.get_text() for text in panels[1].get_legend().get_texts()
    ]
    diamonds = [line for line in panels[1].lines if line.get_marker() == "D"]
    first = next(step for step in range(1, 81) if step >= 4 and 0.9 * (step - 2.5) / 79 >= target)
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in diamonds] == [
        (80, pytest.approx(target)),
        (first, pytest.approx(0.9 * (first - 2.5) / 79)),
    ]
    assert diamonds[0].get_color() != diamonds[1].get_color()
    assert not any(line.get_marker() == "D" for line in panels[0].lines)


@pytest.mark.parametrize("reference", [None, "silent"])
def test_without_curves_of_a_reference_arm_there_is_no_dashed_line(reference):
    dice = {"a": [_curve([0.1, 0.2])], "silent": []}
    panel = curve_figure({arm: [] for arm in dice}, dice, title="", reference_arm=reference).axes[1]
    assert not any(line.get_linestyle() == "--" or line.get_marker() == "D" for line in panel.lines)

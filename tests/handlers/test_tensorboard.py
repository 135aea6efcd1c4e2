"""Events as TensorBoard reads them."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.errors import InputError
from mtmed.handlers import TensorBoardLog
from mtmed.handlers.slice_pictures import middle_slice
from mtmed.metrics.overlay import overlay_figure


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def picture(events, tag, number=-1):
    return np.asarray(Image.open(io.BytesIO(events.Images(tag)[number].encoded_image_string)).convert("RGB"))


def with_pictures(trainer):
    """Adds to the last iteration of each epoch what a pre-training step shows."""
    plain = trainer.one_step
    generator = torch.Generator().manual_seed(0)
    image, label = torch.rand(2, 1, 8, 10, 6, generator=generator), torch.zeros(2, 1, 8, 10, 6)
    label[0, 0, 2:4, 3:7, 4] = 1

    def step(engine, batch):
        output = plain(engine, batch)
        output["outputs"] = {"identity/level_1": torch.tensor(0.25)}
        if engine.state.iteration % engine.state.epoch_length == 0:
            output["views"] = {"view_a": {"image": image, "label": label}, "auxiliary": {"image": image.flip(2)}}
            output["outputs"] |= {
                "reconstruction/view_a": image * 2,
                "sampling_weight/view_a": label,
                "correlation": torch.eye(5),
                "relation": torch.tensor([[-1.0, 0.0, 1.0]]),
            }
        return output

    trainer._process_function = step
    return image, label


def test_every_number_of_a_run_is_logged(small_trainer, tmp_path):
    trainer = small_trainer()
    TensorBoardLog(log_dir=tmp_path).attach(trainer)
    with_pictures(trainer)
    outputs = trainer.go()
    events = read(tmp_path)
    expected = {
        "loss/total": [output["loss"] for output in outputs],
        "loss/fit": [output["losses"]["fit"] for output in outputs],
        "loss/size": [output["losses"]["size"] for output in outputs],
        "weight/fit": [1.0] * 6,
        "weight/size": [0.5] * 6,
        "learning_rate": [output["learning_rate"] for output in outputs],
        "identity/level_1": [0.25] * 6,
    }
    assert set(events.Tags()["scalars"]) == set(expected)
    for tag, values in expected.items():
        assert [event.step for event in events.Scalars(tag)] == list(range(1, 7))
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(values, rel=1e-6)


def test_pictures_of_views_and_tasks(small_trainer, tmp_path):
    trainer = small_trainer()
    TensorBoardLog(log_dir=tmp_path).attach(trainer)
    image, label = with_pictures(trainer)
    trainer.go()
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {
        "view_a/image",
        "view_a/label",
        "auxiliary/image",
        "reconstruction/view_a",
        "sampling_weight/view_a",
        "correlation",
        "relation",
    }
    assert [event.step for event in events.Images("view_a/image")] == [2, 4, 6]
    # the slice with most of the label, the patient's right on the left and the front up
    grey = image[0, 0, :, :, 4].numpy()[::-1, ::-1].T
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    assert np.abs(picture(events, "view_a/image")[..., 0] / 255 - grey).max() < 0.01
    assert np.array_equal(
        picture(events, "view_a/label")[..., 0] == 255, label[0, 0, :, :, 4].numpy()[::-1, ::-1].T == 1
    )
    # what a task makes of a view is shown in the view's slice
    assert np.abs(picture(events, "reconstruction/view_a")[..., 0] / 255 - grey).max() < 0.01
    assert np.array_equal(picture(events, "correlation")[..., 0], np.eye(5) * 255)
    assert picture(events, "relation")[0, :, 0].tolist() == [0, 127, 255]


def test_prediction_is_shown_in_the_slice_of_the_only_view(small_trainer, tmp_path):
    trainer = small_trainer(epochs=1, epoch_length=1)
    TensorBoardLog(log_dir=tmp_path).attach(trainer)
    plain = trainer.one_step
    label = torch.zeros(1, 1, 4, 4, 5)
    label[0, 0, 1, 2, 0] = 1

    def step(engine, batch):
        return {
            **plain(engine, batch),
            "views": {"patch": {"image": label, "label": label}},
            "outputs": {"prediction": label.long()},
        }

    trainer._process_function = step
    trainer.go()
    events = read(tmp_path)
    assert np.array_equal(picture(events, "prediction"), picture(events, "patch/label"))
    assert picture(events, "prediction").max() == 255


def test_scalars_come_at_their_interval(small_trainer, tmp_path):
    trainer = small_trainer()
    TensorBoardLog(log_dir=tmp_path, iteration_interval=3).attach(trainer)
    trainer.go()
    assert [event.step for event in read(tmp_path).Scalars("loss/total")] == [3, 6]
    with pytest.raises(InputError, match="iteration_interval"):
        TensorBoardLog(log_dir=tmp_path, iteration_interval=0)


def test_validation_logs_dice_per_class_and_one_overlay(small_trainer, make_evaluator, tmp_path):
    trainer, evaluator = small_trainer(epochs=2), make_evaluator()
    names = {0: "background", 1: "organ"}
    TensorBoardLog(log_dir=tmp_path, evaluator=evaluator, label_names=names, spacing=(1, 2, 3)).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(trainer.state.epoch))
    trainer.go()
    events = read(tmp_path)
    for tag in ("validation/mean_dice", "validation/mean_dice/organ"):
        assert [event.step for event in events.Scalars(tag)] == [2, 4]
        assert events.Scalars(tag)[-1].value == pytest.approx(evaluator.state.metrics["mean_dice"])
    assert [event.step for event in events.Images("validation/overlay")] == [2, 4]
    # the first case is the one that is shown
    case = evaluator.data_loader[0]
    image, label = case["image"][0, 0].numpy(), case["label"][0, 0].numpy()
    figure = overlay_figure(image, label, label, (1, 2, 3), names, title="first validation case")
    figure.canvas.draw()
    assert np.array_equal(picture(events, "validation/overlay"), np.asarray(figure.canvas.buffer_rgba())[..., :3])
    assert plt.get_fignums() == []


def test_predictions_that_are_label_maps_are_shown_too(small_trainer, make_evaluator, tmp_path):
    class Labels(torch.nn.Module):
        def forward(self, image):
            return (image > 0.5).to(torch.uint8)

    trainer, evaluator = small_trainer(epochs=1), make_evaluator(network=Labels())
    TensorBoardLog(log_dir=tmp_path, evaluator=evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(1))
    trainer.go()
    assert picture(read(tmp_path), "validation/overlay").std() > 1


def test_a_validation_without_label_maps_logs_its_numbers_and_no_picture(small_trainer, make_evaluator, tmp_path):
    class Mean(torch.nn.Module):
        def forward(self, image):
            return image.flatten(2).mean(2)

    regions = [{"image": case["image"], "label": torch.tensor([1])} for case in make_evaluator().data_loader]
    evaluator = SupervisedEvaluator(torch.device("cpu"), regions, Mean(), decollate=False)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(pair_auc=0.75, pairs=3))
    trainer = small_trainer(epochs=1)
    TensorBoardLog(log_dir=tmp_path, evaluator=evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(1))
    trainer.go()
    events = read(tmp_path)
    assert events.Scalars("validation/pair_auc")[0].value == 0.75
    assert events.Scalars("validation/pairs")[0].value == 3
    assert events.Tags()["images"] == []


def test_resumed_run_hides_what_was_logged_after_its_checkpoint(small_trainer, tmp_path):
    killed = small_trainer()
    TensorBoardLog(log_dir=tmp_path).attach(killed)
    with_pictures(killed)
    killed.go()
    (written,) = tmp_path.glob("events.out.tfevents.*")
    # files of one second may be read in either order
    written.rename(tmp_path / "events.out.tfevents.0000000001.earlier")
    resumed = small_trainer()
    resumed.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "iteration", 4))
    resumed.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", 2))
    TensorBoardLog(log_dir=tmp_path).attach(resumed)
    with_pictures(resumed)
    outputs = resumed.go()
    events = read(tmp_path)
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("loss/total")[-1].value == pytest.approx(outputs[-1]["loss"])
    assert [event.step for event in events.Images("view_a/image")] == [2, 4, 6]


def test_other_processes_write_nothing(small_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr("mtmed.handlers.tensorboard.rank", lambda: 1)
    trainer = small_trainer()
    TensorBoardLog(log_dir=tmp_path).attach(trainer)
    trainer.go()
    assert list(tmp_path.iterdir()) == []


def test_slices_of_two_and_three_dimensions():
    plane = torch.arange(12.0).view(1, 1, 3, 4)
    assert torch.equal(middle_slice(plane), plane[0, 0] / 11)
    volume = torch.arange(24.0).view(1, 1, 2, 3, 4)
    assert torch.equal(middle_slice(volume, 1) * 20, volume[0, 0, :, :, 1].flip(0, 1).T - 1)
    assert torch.equal(middle_slice(torch.full((1, 1, 2, 2, 2), 7.0)), torch.zeros(2, 2))

"""Pictures of organs that overlap, as TensorBoard reads them."""

import io

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.errors import InputError
from mtmed.handlers import TensorBoardLog
from mtmed.handlers.slice_pictures import middle_slice, most_labelled, organ_slice
from mtmed.metrics.overlay import label_colours, overlay_figure
from mtmed.organ_masks import pack_masks, packed_names

ORGANS = ["large_bowel", "small_bowel", "stomach"]
COLOURS = label_colours(packed_names(ORGANS))


def _read(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def _picture(events, tag):
    (event,) = events.Images(tag)
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def _batch():
    """Four 2D samples of three channels; the third one has most label: two squares that overlap."""
    image = torch.rand(4, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(4, 1, 12, 16, dtype=torch.uint8)
    label[2, 0, 2:8, 3:10] = 1
    label[2, 0, 4:10, 6:14] |= 4
    label[3, 0, 0:3, 0:3] = 2
    return image, label


def _log_step(small_trainer, folder, views, outputs, **options):
    trainer = small_trainer(epochs=1, epoch_length=1)
    TensorBoardLog(log_dir=folder, **options).attach(trainer)
    plain = trainer.one_step
    trainer._process_function = lambda engine, batch: {**plain(engine, batch), "views": views, "outputs": outputs}
    trainer.go()
    return _read(folder)


def _alike(picture, expected):
    assert np.abs(picture / 255 - expected).max() < 0.01


def test_a_2d_batch_shows_its_sample_with_most_label_and_overlapping_organs_in_a_colour_of_their_own(
    small_trainer, tmp_path
):
    image, label = _batch()
    prediction = label.roll(1, 3)
    outputs = {"prediction": prediction, "similarity": torch.eye(4)}
    events = _log_step(small_trainer, tmp_path, {"patch": {"image": image, "label": label}}, outputs, organs=ORGANS)
    assert set(events.Tags()["images"]) == {"patch/image", "patch/label", "prediction", "similarity"}
    grey = image[2, 1].numpy()
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    # rows and columns as they are: images oriented SPL are upright
    _alike(_picture(events, "patch/image"), np.repeat(grey[..., None], 3, -1))
    shown = _picture(events, "patch/label")
    outside = label[2, 0].numpy() == 0
    _alike(shown[outside], np.repeat(grey[..., None], 3, -1)[outside])
    for value in (1, 4, 5):
        first, *_ = np.argwhere(label[2, 0].numpy() == value)
        _alike(shown[tuple(first)], COLOURS[value])  # edges in full colour
    _alike(shown[5, 8], 0.65 * grey[5, 8] + 0.35 * np.asarray(COLOURS[5]))
    _alike(_picture(events, "prediction"), organ_slice(image, prediction, ORGANS, sample=2))
    assert not np.array_equal(_picture(events, "prediction"), shown)


def test_predictions_lie_on_the_view_that_they_name_or_that_has_the_label(small_trainer, tmp_path):
    image, label = _batch()
    views = {"patch": {"image": image, "label": label}, "key": {"image": image.flip(0)}}
    outputs = {"prediction": label, "key_prediction/key": label, "reconstruction/key": image}
    events = _log_step(small_trainer, tmp_path, views, outputs, organs=ORGANS)
    _alike(_picture(events, "prediction"), organ_slice(image, label, ORGANS, sample=2))
    _alike(_picture(events, "key_prediction/key"), organ_slice(image.flip(0), label, ORGANS))
    _alike(_picture(events, "reconstruction/key")[..., 0], middle_slice(image).numpy())


def test_without_organs_labels_stay_grey(small_trainer, tmp_path):
    image, label = _batch()
    views = {"patch": {"image": image, "label": label}}
    events = _log_step(small_trainer, tmp_path, views, {"prediction": label})
    _alike(_picture(events, "patch/label")[..., 0], label[2, 0].numpy() / 5)
    assert np.array_equal(_picture(events, "patch/label"), _picture(events, "prediction"))


def test_most_labelled_sample_of_2d_images_and_slice_of_volumes():
    _, label = _batch()
    assert most_labelled(label) == (2, None)
    assert most_labelled(torch.zeros_like(label)) == (0, None)
    volume = label[1:3, :, None].permute(0, 1, 3, 4, 2).repeat(1, 1, 1, 1, 5)
    assert most_labelled(volume) == (0, None)
    volume[0, 0, 1, 1, 3] = 2
    assert most_labelled(volume) == (0, 3)


def test_volumes_are_turned_as_their_labels():
    image = torch.rand(1, 1, 5, 6, 4)
    packed = (image * 7).round().to(torch.uint8)
    shown = organ_slice(image, packed, ORGANS, 2)
    assert shown.shape == (6, 5, 3)
    values = packed[0, 0, :, :, 2].numpy()[::-1, ::-1].T
    flat = middle_slice(image, 2).numpy()[..., None]
    for value, colour in COLOURS.items():
        tinted = 0.65 * flat + 0.35 * np.asarray(colour)
        found = shown[values == value]
        assert all(np.allclose(pixel, colour) for pixel in found) or np.allclose(found, tinted[values == value])


class Sines(torch.nn.Module):
    """A logit per organ, or their packed masks."""

    def __init__(self, *, packed=False):
        super().__init__()
        self.packed = packed

    def forward(self, image):
        logits = torch.cat([torch.sin(9 * image[:, :1] * (1 + k)) for k in range(3)], 1)
        return pack_masks(logits > 0, axis=1) if self.packed else logits


@pytest.mark.parametrize("packed", [False, True])
def test_the_overlay_of_a_validation_is_upright_and_true_to_scale(small_trainer, tmp_path, packed):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 2, 5, 8, 10, generator=generator)  # slices to the head, rows to the back, columns to the left
    label = torch.randint(0, 8, (1, 1, 5, 8, 10), generator=generator, dtype=torch.uint8)
    values = sum((Sines()(image)[:, k] > 0).to(torch.uint8) << k for k in range(3))[:, None]
    batches = [{"image": image, "label": label}]
    evaluator = SupervisedEvaluator(torch.device("cpu"), batches, Sines(packed=packed), decollate=False)
    trainer = small_trainer(epochs=1)
    options = {"spacing": (3.0, 1.5, 2.0), "axcodes": "SPL", "organs": ORGANS}
    TensorBoardLog(log_dir=tmp_path, evaluator=evaluator, **options).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(1))
    trainer.go()
    in_ras = [one.numpy().transpose(2, 1, 0)[::-1, ::-1] for one in (image[0, 0], label[0, 0], values[0, 0])]
    figure = overlay_figure(*in_ras, (2.0, 1.5, 3.0), packed_names(ORGANS), title="first validation case")
    figure.canvas.draw()
    ours = _picture(_read(tmp_path), "validation/overlay")
    assert np.array_equal(ours, np.asarray(figure.canvas.buffer_rgba())[..., :3])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "large_bowel + stomach" in legend


@pytest.mark.parametrize("axcodes", ["RA", "RAA", "RAX", "RASS", "RLS"])
def test_axes_that_are_none_are_refused(tmp_path, axcodes):
    with pytest.raises(InputError, match="axcodes"):
        TensorBoardLog(log_dir=tmp_path, axcodes=axcodes)


def test_names_of_labels_beside_those_of_organs_are_refused(tmp_path):
    with pytest.raises(InputError, match="label_names"):
        TensorBoardLog(log_dir=tmp_path, label_names={0: "background", 1: "organ"}, organs=ORGANS)

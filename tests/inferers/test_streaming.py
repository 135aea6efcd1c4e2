"""Streaming inference against MONAI's sliding window and argmax."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers import StreamingArgmaxInferer


def _network(dims: int, classes: int, channels: int = 1) -> nn.Module:
    torch.manual_seed(3)
    convolution = nn.Conv3d if dims == 3 else nn.Conv2d
    layers = convolution(channels, 6, 3, padding=1), nn.ReLU(), convolution(6, classes, 3, padding=1)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("size", "roi", "overlap"),
    [
        ((40, 33, 27), (16, 16, 16), 0.5),
        ((40, 33, 27), (16, 16, 16), (0.25, 0.6, 0.0)),
        ((41, 20, 18), (13, 9, 18), 0.7),
        ((12, 30, 9), (16, 16, 16), 0.5),  # padded along the first and the last axis
        ((5, 6, 7), (8, 8, 8), 0.5),
        ((30, 12, 12), (-1, 8, 8), 0.5),
        ((45, 31), (16, 12), 0.5),
        ((9, 31), (16, 12), 0.25),
    ],
)
def test_labels_equal_monais_sliding_window_and_argmax(size, roi, overlap, mode, batch):
    network = _network(len(size), 5)
    image = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = sliding_window_inference(image, roi, batch, network, overlap=overlap, mode=mode, sigma_scale=0.125)
    ours = StreamingArgmaxInferer(roi_size=roi, sw_batch_size=batch, overlap=overlap, mode=mode)(image, network)
    assert ours.shape == (2, 1, *size)
    assert ours.dtype == torch.uint8
    assert len(ours.unique()) > 1
    assert torch.equal(ours.long(), logits.argmax(1, keepdim=True))


def test_padding_mode_and_value_are_monais():
    network = _network(3, 4)
    image = torch.randn(1, 1, 10, 9, 20, generator=torch.Generator().manual_seed(1))
    for mode, value in (("reflect", 0.0), ("constant", 2.5)):
        with torch.no_grad():
            logits = sliding_window_inference(
                image, (12, 12, 12), 2, network, overlap=0.5, mode="gaussian", padding_mode=mode, cval=value
            )
        ours = StreamingArgmaxInferer(roi_size=12, sw_batch_size=2, padding_mode=mode, cval=value)(image, network)
        assert torch.equal(ours.long(), logits.argmax(1, keepdim=True))


def test_batches_of_windows_are_full_but_the_last():
    counts: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        counts.append(len(windows))
        return torch.cat([windows, -windows], 1)

    StreamingArgmaxInferer(roi_size=8, sw_batch_size=4)(torch.randn(1, 1, 24, 14, 8), network)  # 5 * 3 windows
    assert counts == [4, 4, 4, 3]


def test_windows_without_foreground_are_background_and_not_computed():
    calls: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        calls.append(len(windows))
        return torch.cat([torch.zeros_like(windows), torch.ones_like(windows)], 1)

    image = torch.zeros(1, 1, 64, 8, 8)
    image[0, 0, 50] = 1.0
    labels = StreamingArgmaxInferer(roi_size=8, overlap=0, foreground_threshold=0.5)(image, network)
    assert sum(calls) == 1
    assert labels[0, 0, 48:56].eq(1).all()
    assert labels.sum() == 8 * 8 * 8
    nothing = StreamingArgmaxInferer(roi_size=8, foreground_threshold=0.5)(torch.zeros(1, 1, 16, 8, 8), network)
    assert not nothing.any()
    assert nothing.shape == (1, 1, 16, 8, 8)


def test_more_than_256_classes_need_int16():
    def network(windows: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(windows), 300, *windows.shape[2:])
        logits[:, 299] = 1
        return logits

    labels = StreamingArgmaxInferer(roi_size=4)(torch.zeros(1, 1, 6, 6, 6), network)
    assert labels.dtype == torch.int16
    assert labels.eq(299).all()


def test_half_precision_logits_are_summed_in_single_precision():
    network = _network(3, 3)
    image = torch.randn(1, 1, 20, 12, 12)
    single = StreamingArgmaxInferer(roi_size=8)(image, lambda x: network(x).bfloat16().float())
    half = StreamingArgmaxInferer(roi_size=8)(image, lambda x: network(x).bfloat16())
    assert torch.equal(single, half)


def test_meta_data_and_device_of_the_image_are_kept():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    image = MetaTensor(torch.randn(1, 1, 10, 10, 10), affine=affine, meta={"filename_or_obj": "a.nii.gz"})
    labels = StreamingArgmaxInferer(roi_size=8)(image, _network(3, 2))
    assert isinstance(labels, MetaTensor)
    assert torch.equal(labels.affine, image.affine)
    assert labels.meta["filename_or_obj"] == "a.nii.gz"


def test_output_that_is_not_finite_is_refused_by_the_name_of_the_image():
    image = MetaTensor(torch.randn(1, 1, 8, 8, 8), meta={"filename_or_obj": "scan.nii.gz"})
    image[0, 0, 1, 1, 1] = torch.nan
    with pytest.raises(InputError, match=r"scan\.nii\.gz: the network's output is not finite"):
        StreamingArgmaxInferer(roi_size=8)(image, _network(3, 2))


def test_networks_with_several_or_smaller_outputs_are_refused():
    image = torch.randn(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="one tensor of the windows' size"):
        StreamingArgmaxInferer(roi_size=8)(image, lambda x: x[..., ::2])
    with pytest.raises(ValueError, match="it gave tuple"):
        StreamingArgmaxInferer(roi_size=8)(image, lambda x: (x, x))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("name", "value"), [("overlap", 1.0), ("overlap", -0.1), ("sw_batch_size", 0)])
def test_options_outside_their_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        StreamingArgmaxInferer(roi_size=8, **{name: value})

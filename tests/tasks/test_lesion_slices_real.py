"""Real FLAIR slices: the lesion losses teach a 2D U-Net to find lesions, from masks that JPEG has blurred."""

import numpy as np
import pytest
import torch
from skimage.io import imread

from mtmed.losses import GeneralisedDiceLoss, TruePositiveRateLoss
from mtmed.metrics.lesions import score_lesions
from mtmed.networks import UNet


@pytest.mark.real
def test_a_slice_is_learnt_by_heart_and_scored(real_data):
    folder = real_data / "ms_flair_2d"
    masks = {path.name: imread(path) for path in sorted((folder / "masks").glob("*.jpg"))}
    masks = {name: mask[..., 0] if mask.ndim == 3 else mask for name, mask in masks.items()}
    assert any(set(np.unique(mask)) - {0, 255} for mask in masks.values()), "JPEG leaves values between"
    name = max(masks, key=lambda one: int((masks[one] > 127).sum()))
    image = imread(folder / "images" / name)
    image = (image[..., 0] if image.ndim == 3 else image)[::4, ::4].astype(np.float32)
    reference = masks[name][::4, ::4] > 127
    inputs = torch.from_numpy((image - image.mean()) / image.std())[None, None]
    target = torch.from_numpy(reference.astype(np.int64))[None, None]
    torch.manual_seed(0)
    network = UNet(in_channels=1, out_channels=2, features=[8, 8, 16, 16, 16, 8], spatial_dims=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        logits = network(inputs)
        loss = GeneralisedDiceLoss()(logits, target) + TruePositiveRateLoss()(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    prediction = network(inputs).argmax(1)[0].numpy() == 1
    scores = score_lesions(prediction, reference, (1.0, 1.0))
    assert losses[-1] < 0.5 * losses[0]
    assert scores.dice > 0.8
    assert scores.lesion_wise_true_positive_rate > 0.8

"""Real CT slices: the dense U-Net in 2D, with the losses of the siamese kidney paper and its reconstruction branch."""

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from skimage.io import imread

from mtmed.losses import ForegroundBCELoss, LinearWeighting
from mtmed.networks import DenseUNet
from mtmed.tasks import MultiTaskModel, Reconstruction, Segmentation, StepContext

STEPS = 150


@pytest.mark.real
@pytest.mark.slow
def test_slices_of_a_patient_are_learnt_by_heart(real_data):
    folder = real_data / "kits19_ct_slices_2d"
    names = sorted(path.name for path in (folder / "images").glob("10036_*.png"))[::4]
    image = np.stack([_grey(imread(folder / "images" / name))[::4, ::4] for name in names]).astype(np.float32)
    # blue is kidney, red is tumour, which counts as kidney
    kidney = np.stack([imread(folder / "masks" / name)[::4, ::4, :3].any(-1) for name in names])
    assert kidney.any((1, 2)).all()
    image = torch.from_numpy((image - image.mean()) / image.std())[:, None]
    view = {"image": image, "clean": image, "label": torch.from_numpy(kidney.astype(np.uint8))[:, None]}
    torch.manual_seed(0)
    network = DenseUNet(in_channels=1, out_channels=2, spatial_dims=2)
    losses = {
        "cross_entropy": ForegroundBCELoss(),
        "dice": DiceLoss(include_background=False, to_onehot_y=True, softmax=True, squared_pred=True),
    }
    model = MultiTaskModel(
        network=network,
        tasks={
            "segmentation": Segmentation(loss=losses, view="patch"),
            "reconstruction": Reconstruction(views=["patch"], branch="coarsest"),
        },
    )
    start, end = ({"cross_entropy": w, "dice": 1 - w, "reconstruction": 0.1} for w in (0.6, 0.2))
    weighting = LinearWeighting(start=start, end=end, steps=STEPS)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    reconstruction = []
    for step in range(STEPS):
        found, _ = model({"patch": view}, StepContext(seed=0, step=step, positions=tuple(range(len(names)))))
        optimizer.zero_grad()
        weighting(found, step).total.backward()
        optimizer.step()
        reconstruction.append(found["reconstruction"].item())
    with torch.no_grad():
        predicted = network(image).argmax(1).numpy() == 1
    dice = 2 * (predicted & kidney).sum() / (predicted.sum() + kidney.sum())
    assert dice > 0.85
    assert reconstruction[-1] < 0.5 * reconstruction[0]


def _grey(image):
    return image[..., 0] if image.ndim == 3 else image

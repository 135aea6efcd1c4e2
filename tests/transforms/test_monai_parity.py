"""The benchmark's reproduction of MONAI's elastic transform, from the same seed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from monai.transforms import Rand3DElasticd


def monai_elastic() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "monai_elastic.py"
    spec = importlib.util.spec_from_file_location("monai_elastic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [0, 3])
def test_same_seed_gives_monais_image_and_label(seed):
    options = {
        "sigma_range": (3, 4),
        "magnitude_range": (40, 80),
        "rotate_range": (0.2, 0.1, 0.3),
        "scale_range": (0.1, 0.1, 0.1),
        "translate_range": (2.0, 1.0, 3.0),
    }
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 24, 20, 22, generator=generator)
    label = torch.randint(0, 4, (1, 24, 20, 22), generator=generator).to(torch.uint8)
    stock = Rand3DElasticd(["image", "label"], prob=1.0, mode=("bilinear", "nearest"), **options)
    stock.set_random_state(seed)
    ours = monai_elastic().SeededElastic(**options, seed=seed)
    for _ in range(2):
        expected = stock({"image": image, "label": label})
        warped = ours({"image": image, "label": label})
        assert (warped["image"] - image).abs().max() > 0.1
        torch.testing.assert_close(
            warped["image"], torch.as_tensor(expected["image"]), atol=1e-4, rtol=0, check_dtype=False
        )
        assert torch.equal(warped["label"].float(), torch.as_tensor(expected["label"]).float())

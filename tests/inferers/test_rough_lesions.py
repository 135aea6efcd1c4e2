"""Lesions of a first network, as a step of the preprocessing."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from mtmed.data.fingerprint import fingerprint
from mtmed.errors import InputError
from mtmed.inferers.rough_lesions import GROUND_TRUTH, RoughLesionsd
from mtmed.networks import UNet, save_network

MODALITIES = ["FLAIR", "T1"]
SPACING = [1.0, 1.0, 2.0]


def save(path, seed, modalities=MODALITIES, variant="single"):
    torch.manual_seed(seed)
    definition = {
        "_target_": "mtmed.networks.UNet",
        "in_channels": len(modalities),
        "out_channels": 2,
        "features": [3, 4, 4, 4, 4, 3],
    }
    network = UNet(**{key: value for key, value in definition.items() if key != "_target_"})
    network.definition = definition
    save_network(
        path,
        network,
        {"variant": variant, "modalities": list(modalities), "spacing": SPACING, "patch_size": [32, 16, 16]},
    )
    return network.eval()


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    voxels = torch.randn(2, 36, 20, 18, generator=generator)
    # its bounding box is the volume, so that MONAI's windows are the same
    voxels[:, :8, :8, :8] = 0
    return MetaTensor(voxels)


@pytest.fixture
def files(tmp_path):
    paths = [str(tmp_path / f"{name}.pt") for name in ("all", "without_a")]
    return dict(zip(paths, (save(path, seed) for seed, path in enumerate(paths)), strict=True))


def predicted(network, image):
    with torch.no_grad():
        logits = SlidingWindowInferer((32, 16, 16), sw_batch_size=4, overlap=0.5, mode="gaussian")(
            image.as_tensor()[None], network
        )
    return logits.argmax(1)


def test_each_patient_gets_the_lesions_of_their_network(files, image):
    everyone, without_a = files
    step = RoughLesionsd(checkpoints={"": everyone, "a": without_a}, modalities=MODALITIES, spacing=SPACING)
    inside = (image != 0).any(0)
    for case, path in (("a", without_a), ("b", everyone), ("", everyone)):
        lesions = step({"image": image, "case": case})["rough_lesion"]
        assert lesions.shape == (1, 36, 20, 18)
        assert not lesions[0, ~inside].any()
        assert torch.equal(lesions.as_tensor() > 0, (predicted(files[path], image) * inside).as_tensor() > 0)
    assert not torch.equal(step({"image": image, "case": "a"})["rough_lesion"], step({"image": image})["rough_lesion"])


def test_ground_truth_takes_the_label_of_those_it_names(files, image):
    (everyone, _) = files
    step = RoughLesionsd(checkpoints={"": everyone, "a": GROUND_TRUTH}, modalities=MODALITIES, spacing=SPACING)
    label = MetaTensor(torch.zeros(1, 36, 20, 18))
    label[0, 10, 10, 10] = 3
    lesions = step({"image": image, "label": label, "case": "a"})["rough_lesion"]
    assert lesions.nonzero().tolist() == [[0, 10, 10, 10]]
    other = step({"image": image, "label": label, "case": "b"})["rough_lesion"]
    assert not torch.equal(torch.as_tensor(other), torch.as_tensor(lesions))


def test_nothing_else_is_touched(files, image):
    (everyone, _) = files
    data = {"image": image, "case": "a", "more": 1}
    result = RoughLesionsd(checkpoints={"": everyone}, modalities=MODALITIES, spacing=SPACING)(data)
    assert set(data) == {"image", "case", "more"}
    assert set(result) == {*data, "rough_lesion"}
    assert result["image"] is image


def test_a_network_trained_anew_is_another_step(tmp_path):
    path = str(tmp_path / "rough.pt")
    save(path, 0)
    before = fingerprint(RoughLesionsd(checkpoints={"": path}, modalities=MODALITIES, spacing=SPACING))
    assert fingerprint(RoughLesionsd(checkpoints={"": path}, modalities=MODALITIES, spacing=SPACING)) == before
    save(path, 1)
    assert fingerprint(RoughLesionsd(checkpoints={"": path}, modalities=MODALITIES, spacing=SPACING)) != before


def test_networks_of_other_modalities_are_refused(tmp_path):
    path = str(tmp_path / "rough.pt")
    save(path, 0, ["FLAIR", "T2"])
    with pytest.raises(InputError, match=r"trained with modalities \['FLAIR', 'T2'\]"):
        RoughLesionsd(checkpoints={"": path}, modalities=MODALITIES, spacing=SPACING)


def test_a_file_that_is_not_there_is_refused_with_where_to_find_it(tmp_path):
    with pytest.raises(InputError, match=r"pass --rough_checkpoint with the rough\.pt"):
        RoughLesionsd(checkpoints={"": str(tmp_path / "no.pt")}, modalities=MODALITIES, spacing=SPACING)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "rough.pt"
    path.write_bytes(b"no network")
    with pytest.raises(InputError):
        RoughLesionsd(checkpoints={"": str(path)}, modalities=MODALITIES, spacing=SPACING)


def test_networks_of_another_variant_or_spacing_are_refused(tmp_path):
    path = str(tmp_path / "rough.pt")
    save(path, 0)
    with pytest.raises(InputError, match=r"trained with spacing \[1\.0, 1\.0, 2\.0\], wanted is \[3\.0, 3\.0, 3\.0\]"):
        RoughLesionsd(checkpoints={"": path}, modalities=MODALITIES, spacing=[3, 3, 3])
    save(path, 0, variant="multi_output")
    with pytest.raises(InputError, match="trained with variant multi_output, wanted is single"):
        RoughLesionsd(checkpoints={"": path}, modalities=MODALITIES, spacing=SPACING)


def test_the_device_is_no_part_of_what_is_computed(files):
    steps = [
        RoughLesionsd(checkpoints={"": next(iter(files))}, modalities=MODALITIES, spacing=SPACING, device=device)
        for device in ("cpu", "cuda:1")
    ]
    assert fingerprint(steps[0]) == fingerprint(steps[1])

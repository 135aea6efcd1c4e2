import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from tissue_phantom import SPACING, tissue_ball

from mtmed.data.fingerprint import fingerprint
from mtmed.errors import InputError
from mtmed.transforms import MergeLesionsd, RelabelTissued, SegmentTissued, TissueChannelsd, tissue_cache
from mtmed.transforms.tissue_segmentation import segment_tissue

pytest.importorskip("dipy")

AFFINE = np.array([[0, -4, 0, 70], [4, 0, 0, -60], [0, 0, 4, -50], [0, 0, 0, 1.0]])


def case() -> dict[str, MetaTensor]:
    t1, _ = tissue_ball()
    meta = {"filename_or_obj": "flair.nii.gz"}
    image = MetaTensor(torch.from_numpy(np.stack([t1.max() - t1, t1])), affine=torch.from_numpy(AFFINE), meta=meta)
    return {"image": image}


def small(values: list[int], dtype: torch.dtype = torch.uint8) -> MetaTensor:
    return MetaTensor(torch.tensor(values, dtype=dtype).reshape(1, -1, 1, 1))


def test_the_tissue_map_is_made_of_the_named_channel_on_the_images_grid() -> None:
    data = case()
    tissue = SegmentTissued(channel=1)(data)["tissue"]
    expected = segment_tissue(data["image"][1].numpy(), spacing=SPACING)
    assert (tissue.dtype, tissue.shape) == (torch.uint8, (1, 36, 36, 36))
    np.testing.assert_array_equal(tissue[0].numpy(), expected)
    np.testing.assert_array_equal(tissue.affine, AFFINE)
    assert "tissue" not in data


def test_a_second_call_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = SegmentTissued(channel=1, cache_dir=str(tmp_path / "maps"))
    first = transform(case())["tissue"]
    (file,) = (tmp_path / "maps").glob("[!.]*")
    kept = nib.load(file)
    np.testing.assert_array_equal(kept.dataobj, first[0])
    np.testing.assert_allclose(kept.affine, AFFINE)
    monkeypatch.setattr(tissue_cache, "segment_tissue", lambda *_, **__: pytest.fail("made again"))
    assert torch.equal(transform(case())["tissue"], first)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_cache_file_is_made_again(tmp_path: Path, damage: str) -> None:
    transform = SegmentTissued(channel=1, cache_dir=str(tmp_path))
    first = transform(case())["tissue"]
    (file,) = tmp_path.glob("*.nii.gz")
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    file.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b"", "other": b"no gzip"}[damage])
    assert torch.equal(transform(case())["tissue"], first)
    assert file.read_bytes() == content


def test_other_voxels_spacing_or_method_have_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    t1, _ = tissue_ball()
    changed = t1.copy()
    changed[18, 18, 18] += 1
    keys = [
        tissue_cache.tissue_key(scan, spacing=spacing) for scan in (t1, changed) for spacing in (SPACING, (4, 4, 3))
    ]
    assert tissue_cache.tissue_key(np.asfortranarray(t1), spacing=SPACING) == keys[0]
    monkeypatch.setattr(tissue_cache, "tissue_method", lambda: "another")
    keys.append(tissue_cache.tissue_key(t1, spacing=SPACING))
    assert len(set(keys)) == 5


def test_errors_name_the_channel_and_the_file() -> None:
    with pytest.raises(InputError, match=r"flair.nii.gz: has 2 channels, T1 shall be number 2"):
        SegmentTissued(channel=2)(case())
    data = case()
    data["image"][1] = 0
    with pytest.raises(InputError, match=r"T1 \(channel 1\) of flair.nii.gz: is empty"):
        SegmentTissued(channel=1)(data)
    with pytest.raises(InputError, match="channel: is -1"):
        SegmentTissued(channel=-1)


def test_a_users_map_gets_our_values() -> None:
    data = {"tissue": small([0, 2, 3, 1], torch.float32)}
    relabelled = RelabelTissued(table="spm")(data)["tissue"]
    assert relabelled.dtype == torch.uint8
    assert relabelled.flatten().tolist() == [0, 3, 1, 2]
    with pytest.raises(InputError, match="holds the values 3"):
        RelabelTissued(table={1: "csf", 2: "grey_matter"})(data)


def test_lesions_become_white_matter_and_nothing_else_changes() -> None:
    data = {"tissue": small([0, 1, 2, 3, 2]), "rough": small([0, 0, 1, 1, 0], torch.float32)}
    merged = MergeLesionsd(lesion_key="rough")(data)
    assert merged["tissue"].flatten().tolist() == [0, 1, 3, 3, 2]
    assert merged["tissue"].dtype == torch.uint8
    assert data["tissue"].flatten().tolist() == [0, 1, 2, 3, 2]


@pytest.mark.parametrize("lesion", [None, small([0, 1])])
def test_a_missing_or_foreign_lesion_mask_is_refused(lesion: MetaTensor | None) -> None:
    data = {"tissue": small([0, 1, 2])} | ({} if lesion is None else {"label": lesion})
    with pytest.raises(InputError, match="label: "):
        MergeLesionsd()(data)


def test_the_image_gets_three_channels_and_keeps_its_meta_data() -> None:
    data = SegmentTissued(channel=1)(case())
    image = TissueChannelsd()(data)["image"]
    assert image.shape == (5, 36, 36, 36)
    assert torch.equal(image[:2].as_tensor(), data["image"].as_tensor())
    for channel, value in ((2, 1), (3, 2), (4, 3)):
        assert torch.equal(image[channel].as_tensor() == 1, data["tissue"][0].as_tensor() == value)
    assert (image[2:].sum(0) == (data["tissue"][0] > 0)).all()
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.meta["filename_or_obj"] == "flair.nii.gz"


def test_a_tissue_map_on_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match=r"tissue: has shape \(1, 3, 1, 1\), image has"):
        TissueChannelsd()({**case(), "tissue": small([1, 2, 3])})
    with pytest.raises(InputError, match="no tissue map"):
        TissueChannelsd()(case())


def test_the_chain_is_picklable_and_recognised_by_the_volume_store(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [SegmentTissued(channel=1), RelabelTissued(table="mtmed"), TissueChannelsd()]
    again = pickle.loads(pickle.dumps(chain))
    assert torch.equal(Compose(again)(case())["image"], Compose(chain)(case())["image"])
    assert fingerprint(chain) == fingerprint(again)
    assert fingerprint(chain) != fingerprint([chain[0], RelabelTissued(table="spm"), chain[2]])
    monkeypatch.setattr("mtmed.transforms.tissue_maps.tissue_method", lambda: "another")
    assert fingerprint(SegmentTissued(channel=1)) != fingerprint(chain[0])

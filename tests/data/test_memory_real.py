"""A scan of 634 slices at 0.5 mm, the longest of the real ones: preparing it needs a bounded amount of memory."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys
from monai.transforms import NormalizeIntensityd, Orientationd, ScaleIntensityRanged
from mtmed.data import Case, VolumeStore
from mtmed.transforms import GroupLabelsd, KidneySidesd, LoadVolumed, SeparableSpacingd

file, folder = sys.argv[1:]
keys = ["image", "label"]
store = VolumeStore(
    folder,
    transforms=[
        LoadVolumed(keys=keys, keep_integers=True, require_orientation=True),
        Orientationd(keys=keys, axcodes="RAS", labels=None),
        SeparableSpacingd(keys=keys, pixdim=(1.62, 1.62, 3.22), mode=["bilinear", "nearest"]),
        GroupLabelsd(keys="label", values={"kits": {1: 1, 2: 1}}),
        KidneySidesd(),
        ScaleIntensityRanged(keys="image", a_min=-80, a_max=300, b_min=0, b_max=1, clip=True),
        NormalizeIntensityd(keys="image"),
    ],
    maps=["side"],
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(volume,) = store.build([Case("135", (file,), file, "135", "kits")], workers=1)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sides = [volume.bounds("side", side) is not None for side in (1, 2)]
print(json.dumps({"mebibytes": (after - before) / 1024, "shape": volume.shape, "sides": sides}))
"""


@pytest.mark.real
def test_preparing_the_longest_scan_needs_less_than_two_gibibytes(real_data, tmp_path):
    file = real_data / "kits19_segmentations" / "case_00135" / "segmentation.nii.gz"
    command = [sys.executable, "-c", SCRIPT, str(file), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shape"][2] == pytest.approx(634 * 0.5 / 3.22, abs=1)
    assert found["sides"] == [True, True]
    # the scan itself has 166 million voxels
    assert found["mebibytes"] < 2048

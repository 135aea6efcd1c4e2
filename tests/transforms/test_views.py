"""Views share the geometry of their role and differ in intensity."""

import copy
import json
import pickle

import pytest
import torch
from monai.bundle import ConfigParser

from mtmed.errors import InputError
from mtmed.transforms import Affine, Elastic, GaussianNoise, IntensityShift, SpatialAugmentation, ViewMaker

RUN = {"seed": 11, "step": 4}
VIEWS = {"first": "patch", "second": "patch", "other": "auxiliary"}


def role(size: int, shape: tuple[int, ...] = (8, 10, 9), seed: int = 0) -> dict[str, torch.Tensor]:
    image = torch.rand(size, 1, *shape, generator=torch.Generator().manual_seed(seed))
    return {
        "image": image,
        "label": (image > 0.5).to(torch.uint8),
        "distance": image * 3,
        "volume": torch.arange(size) + seed,
    }


def maker(**kwargs) -> ViewMaker:
    geometry = [Affine(probability=0.5, rotate_degrees=30), Elastic(probability=0.5)]
    intensity = [IntensityShift(probability=0.8), GaussianNoise(probability=0.8)]
    return ViewMaker(**({"views": VIEWS, "geometry": SpatialAugmentation(geometry), "intensity": intensity} | kwargs))


@pytest.mark.parametrize("shape", [(8, 10, 9), (12, 9)])
def test_views_of_one_role_share_geometry_and_differ_in_intensity(shape):
    roles = {"patch": role(4, shape), "auxiliary": role(4, shape, 50)}
    views = maker()(roles, **RUN, positions=torch.arange(4))
    for name in ("clean", "label", "distance"):
        assert torch.equal(views["first"][name], views["second"][name])
    assert not torch.equal(views["first"]["image"], views["second"]["image"])
    assert not torch.equal(views["first"]["clean"], roles["patch"]["image"])
    assert views["other"]["volume"].tolist() == [50, 51, 52, 53]
    # the warped distance is three times the warped image, so all float maps moved alike
    torch.testing.assert_close(views["first"]["distance"], 3 * views["first"]["clean"], atol=1e-5, rtol=0)


def test_roles_differ_in_geometry():
    same = role(2)
    views = maker(geometry=[Elastic(probability=1)])({"patch": same, "auxiliary": same}, **RUN, positions=[0, 1])
    assert not torch.equal(views["first"]["clean"], views["other"]["clean"])


def test_a_sample_is_the_same_whatever_batch_and_views_surround_it():
    roles = {"patch": role(4), "auxiliary": role(4, seed=50)}
    together = maker()(roles, **RUN, positions=range(4))
    alone = maker(views={"second": "patch"})(
        {"patch": {name: tensor[2:3] for name, tensor in roles["patch"].items()}}, **RUN, positions=[2]
    )["second"]
    for name, tensor in alone.items():
        assert torch.equal(tensor[0], together["second"][name][2])


def test_roles_of_different_shape_work_and_equal_their_own():
    roles = {"patch": role(2), "auxiliary": role(2, (6, 6, 6), 50)}
    views = maker()(roles, **RUN, positions=[0, 1])
    own = maker(views={"other": "auxiliary"})(roles, **RUN, positions=[0, 1])
    assert views["other"]["image"].shape == (2, 1, 6, 6, 6)
    assert torch.equal(views["other"]["image"], own["other"]["image"])


def test_the_batch_is_never_written():
    roles = {"patch": role(3), "auxiliary": role(3, seed=50)}
    before = {name: {k: v.clone() for k, v in tensors.items()} for name, tensors in roles.items()}
    maker(geometry=None)(roles, **RUN, positions=range(3))
    assert all(torch.equal(roles[r][k], before[r][k]) for r in roles for k in roles[r])


def test_clean_is_the_image_before_intensity():
    views = maker(geometry=None, intensity=[IntensityShift(probability=1, offset_range=(0.25, 0.25))])(
        {"patch": role(2), "auxiliary": role(2)}, **RUN, positions=[0, 1]
    )
    assert torch.equal(views["first"]["clean"], role(2)["image"])
    torch.testing.assert_close(views["first"]["image"], views["first"]["clean"] + 0.25)


def test_without_operations_views_are_the_roles():
    view = ViewMaker(views={"patch": "patch"})({"patch": role(2)}, **RUN, positions=[0, 1])["patch"]
    assert torch.equal(view["image"], role(2)["image"])
    assert set(view) == {"image", "clean", "label", "distance", "volume"}


def test_steps_and_seeds_differ():
    roles = {"patch": role(2), "auxiliary": role(2)}
    make = maker(geometry=[Elastic(probability=1)])
    base = make(roles, seed=1, step=1, positions=[0, 1])["first"]["clean"]
    for seed, step in ((2, 1), (1, 2)):
        assert not torch.equal(make(roles, seed=seed, step=step, positions=[0, 1])["first"]["clean"], base)


def test_an_unknown_role_is_named_with_those_there_are():
    with pytest.raises(
        InputError, match=r"view other: shows the role 'auxiliary', the batch has 'patch', 'unlabelled'"
    ):
        maker()({"patch": role(1), "unlabelled": role(1)}, **RUN, positions=[0])


def test_unusable_arguments_are_named():
    with pytest.raises(InputError, match=r"^ViewMaker\.views"):
        ViewMaker(views={})
    with pytest.raises(InputError, match=r"^ViewMaker\.intensity"):
        ViewMaker(views=VIEWS, intensity=[Elastic(probability=1)])
    with pytest.raises(InputError, match="role patch: has no image"):
        ViewMaker(views={"a": "patch"})({"patch": {"label": torch.zeros(1, 1, 4, 4)}}, **RUN, positions=[0])


def test_a_json_declaration_gives_the_same_views_also_when_copied_or_pickled():
    text = """{"views": {
        "_target_": "mtmed.transforms.ViewMaker",
        "views": {"first": "patch", "second": "patch", "other": "auxiliary"},
        "geometry": {
            "_target_": "mtmed.transforms.SpatialAugmentation",
            "operations": [
                {"_target_": "mtmed.transforms.Affine", "probability": 0.5, "rotate_degrees": 30},
                {"_target_": "mtmed.transforms.Elastic", "probability": 0.5}
            ]
        },
        "intensity": [
            {"_target_": "mtmed.transforms.IntensityShift", "probability": 0.8, "offset_range": [-0.1, 0.1]},
            {"_target_": "mtmed.transforms.GaussianNoise", "probability": 0.8}
        ]
    }}"""
    declared = ConfigParser(json.loads(text)).get_parsed_content("views")
    roles = {"patch": role(2), "auxiliary": role(2, seed=50)}
    expected = maker()(roles, **RUN, positions=[0, 1])
    for make in (declared, copy.deepcopy(declared), pickle.loads(pickle.dumps(declared))):
        views = make(roles, **RUN, positions=[0, 1])
        assert all(torch.equal(views[view][name], expected[view][name]) for view in views for name in views[view])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_geometry_on_the_gpu_equals_that_on_the_cpu():
    roles = {"patch": role(3), "auxiliary": role(3, seed=50)}
    on_gpu = {name: {k: v.cuda() for k, v in tensors.items()} for name, tensors in roles.items()}
    cpu, gpu = maker()(roles, **RUN, positions=range(3)), maker()(on_gpu, **RUN, positions=range(3))
    for view in VIEWS:
        torch.testing.assert_close(gpu[view]["clean"].cpu(), cpu[view]["clean"], atol=1e-4, rtol=0)
        assert (gpu[view]["label"].cpu() != cpu[view]["label"]).float().mean() < 1e-3

"""Named views of a batch: geometry drawn once for each role, intensity for each view."""

from collections.abc import Mapping, Sequence

import torch

from mtmed.errors import InputError
from mtmed.transforms.geometry import SpatialAugmentation
from mtmed.transforms.intensity import IntensityOperation

__all__ = ["ViewMaker"]


class ViewMaker(torch.nn.Module):
    """Turn the roles of a batch into the views that the tasks name.

    Two views of one role share its geometry exactly, voxel by voxel, and differ in intensity only; roles differ in
    both. Roles of one shape are warped together, and all views of one shape are changed together.

    Args:
        views: name of each view to the role it shows, for example
            ``{"first": "patch", "second": "patch", "other": "auxiliary"}``.
        geometry: what happens to each role; None for nothing, a list is taken for
            ``SpatialAugmentation(operations)``.
        intensity: what happens to each view, in this order.
        intensity_channels: number of leading channels that are images; those after them (masks as inputs) keep their
            values. None for all channels.
        plain: names of views that show their role as it is, while other views of the same role are changed, for example
            to segment images as they are and to compare changed ones.

    Raises:
        InputError: no views are given; an item of `intensity` is no intensity operation; a plain view is no view.
    """

    def __init__(
        self,
        *,
        views: Mapping[str, str],
        geometry: SpatialAugmentation | Sequence[torch.nn.Module] | None = None,
        intensity: Sequence[torch.nn.Module] = (),
        intensity_channels: int | None = None,
        plain: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not views:
            raise InputError("ViewMaker.views", "is empty", 'name at least one, for example {"patch": "patch"}')
        for operation in intensity:
            if not isinstance(operation, IntensityOperation):
                problem = f"holds a {type(operation).__name__}, which is no intensity operation"
                raise InputError("ViewMaker.intensity", problem, "list for example GaussianNoise")
        unknown = sorted(set(plain) - set(views))
        if unknown:
            problem = f"names {unknown[0]!r}, there are {', '.join(views)}"
            raise InputError("ViewMaker.plain", problem, "name views, or declare this one in ViewMaker.views")
        self.views = dict(views)
        self.plain = frozenset(plain)
        self.geometry = geometry if isinstance(geometry, SpatialAugmentation) else SpatialAugmentation(geometry or [])
        self.intensity = torch.nn.ModuleList(intensity)
        self.intensity_channels = intensity_channels

    @torch.no_grad()
    def forward(
        self,
        roles: Mapping[str, Mapping[str, torch.Tensor]],
        *,
        seed: int,
        step: int,
        positions: Sequence[int] | torch.Tensor,
    ) -> dict[str, dict[str, torch.Tensor]]:
        """Make the views of a batch.

        Args:
            roles: for each role its tensors: "image" (B C H W D or B C H W) and others of its spatial shape ("label",
                "distance"), and tensors with numbers per sample ("volume" B, "condition" B F), which are passed on.
            seed: seed of the run.
            step: optimiser step.
            positions: global position of each of the B samples.

        Returns:
            For each view the tensors of its role after the geometry, with "image" after the changes of intensity and
            "clean" as it was before them. Views of one role share all tensors but "image" (plain ones share among
            themselves), and where nothing fired they are the tensors given: do not write into them.

        Raises:
            InputError: a view names a role that the batch does not have, or that has no image.
        """
        for view, role in self.views.items():
            if role not in roles:
                problem = f"shows the role {role!r}, the batch has {', '.join(map(repr, roles)) or 'none'}"
                raise InputError(f"view {view}", problem, "correct ViewMaker.views or the draw")
            if "image" not in roles[role]:
                raise InputError(f"role {role}", f"has no image, only {', '.join(roles[role])}", "add one to the batch")
        places = [int(position) for position in positions]
        changed = {view: role for view, role in self.views.items() if view not in self.plain}
        shown = self._warp({role: roles[role] for role in changed.values()}, seed, step, places)
        views = {}
        for view, role in self.views.items():
            tensors = roles[role] if view in self.plain else shown[role]
            views[view] = {**tensors, "clean": tensors["image"]}
        if self.intensity and changed:
            for names in _groups({view: {"image": views[view]["clean"]} for view in changed}):
                self._change(views, names, seed, step, places)
        return views

    def _warp(
        self, roles: Mapping[str, Mapping[str, torch.Tensor]], seed: int, step: int, places: list[int]
    ) -> dict[str, dict[str, torch.Tensor]]:
        warped: dict[str, dict[str, torch.Tensor]] = {}
        for names in _groups(roles):
            geometries = []
            for role in names:
                shape = roles[role]["image"].shape[2:]
                geometries += self.geometry.parameters_for(
                    shape, seed=seed, step=step, positions=places, stream=f"geometry/{role}"
                )
            if len(names) == 1 or not any(geometries):
                own = len(geometries) // len(names)
                for index, role in enumerate(names):
                    drawn = geometries[index * own : (index + 1) * own]
                    warped[role] = self.geometry.apply_to(roles[role], drawn)
                continue
            joint = {name: torch.cat([roles[role][name] for role in names]) for name in roles[names[0]]}
            parts = {
                name: tensor.chunk(len(names)) for name, tensor in self.geometry.apply_to(joint, geometries).items()
            }
            for index, role in enumerate(names):
                warped[role] = {name: part[index] for name, part in parts.items()}
        return warped

    def _change(
        self, views: dict[str, dict[str, torch.Tensor]], names: list[str], seed: int, step: int, places: list[int]
    ) -> None:
        images = torch.cat([views[view]["clean"] for view in names])
        for number, operation in enumerate(self.intensity):
            assert isinstance(operation, IntensityOperation)
            changes = []
            for view in names:
                changes += operation.parameters_for(
                    seed=seed, step=step, positions=places, stream=f"intensity/{view}/{number}"
                )
            operation.apply_to(images[:, : self.intensity_channels], changes)
        for view, image in zip(names, images.chunk(len(names)), strict=True):
            views[view]["image"] = image


def _groups(roles: Mapping[str, Mapping[str, torch.Tensor]]) -> list[list[str]]:
    """Names whose tensors agree in everything, so that they can be stacked."""
    groups: dict[object, list[str]] = {}
    for role, tensors in roles.items():
        kind = tuple((name, tuple(tensor.shape), tensor.dtype, tensor.device) for name, tensor in tensors.items())
        groups.setdefault(kind, []).append(role)
    return list(groups.values())

"""A network and the tasks that teach it, called once per step."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtmed.errors import InputError
from mtmed.networks.centre_padding import crop_centre
from mtmed.tasks.task import StepContext, Task, View, ViewFeatures, encode_view

__all__ = ["MultiTaskModel"]

_DEPTH = {"encoded": 0, "decoded": 1, "logits": 2}


class MultiTaskModel(nn.Module):
    """Encodes each view once, decodes what a task wants decoded, and asks every task for its losses.

    One call per step, so that it can be wrapped in ``DistributedDataParallel``. Parameters of the network that no loss
    depends on are frozen, because distributed training waits for the gradient of all others. Views of one shape go
    through the network together unless a layer uses statistics of the batch, whose features would then depend on which
    views share the pass. Beside views whose logits are read, others do not enter its running moments: images that are
    cut, permuted or drawn otherwise are not those that the network will segment. A network that pads images may decode
    to the padded size: tasks get maps of the image's size. A network with ``condition_features`` is told each view's
    ``condition``, B F.

    Args:
        network: encoder-decoder with ``encode``, ``decode`` and ``head``.
        tasks: the learning signals by name.

    Raises:
        InputError: if there is no task.
    """

    def __init__(self, *, network: nn.Module, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        if not tasks:
            raise InputError("tasks", "there is none", "name at least one loss")
        self.network = network
        self.tasks = nn.ModuleDict(tasks)
        self._condition: tuple[str, ...] = getattr(network, "condition_features", ())
        for task in tasks.values():
            task.setup(network)
        self._depth_of_view: dict[str, int] = {}
        for task in tasks.values():
            for view in task.views:
                self._depth_of_view[view] = max(self._depth_of_view.get(view, 0), _DEPTH[task.needs])
        self._freeze_unreached()
        self._normalising = [module for module in network.modules() if isinstance(module, _BatchNorm)]

    def _freeze_unreached(self) -> None:
        """Freeze what no loss depends on, found in the graph of a pass without data."""
        network: Any = copy.deepcopy(self.network).to("meta")
        # instance normalisation needs two voxels on the coarsest level
        size = network.image_size or [2 * max(network.level_strides)] * network.spatial_dims
        # and normalisation of pooled maps needs two images
        images = torch.empty(2, network.in_channels, *size, device="meta")
        encoded = encode_view(network, {"image": images, "condition": images.new_empty(2, len(self._condition))})
        read: list[Tensor] = []
        for task in self.tasks.values():
            depth = _DEPTH[task.needs]  # type: ignore[index]
            if depth == 0:
                levels: Any = task.levels if task.levels is not None else range(len(encoded))
                read += [encoded[level] for level in levels]
            else:
                decoded = network.decode(encoded)
                read.append(decoded if depth == 1 else network.head(decoded))
        reached = _leaves(read)
        for (_, parameter), twin in zip(self.network.named_parameters(), network.parameters(), strict=True):
            parameter.requires_grad_(id(twin) in reached)

    @contextmanager
    def _running_moments_of(self, view: str) -> Iterator[None]:
        """Let a view that is not segmented leave the running moments alone, if another one is."""
        segmented = self._depth_of_view[view] == _DEPTH["logits"]
        if segmented or _DEPTH["logits"] not in self._depth_of_view.values():
            yield
            return
        before = [module.track_running_stats for module in self._normalising]
        try:
            for module in self._normalising:
                module.track_running_stats = False
            yield
        finally:
            for module, tracked in zip(self._normalising, before, strict=True):
                module.track_running_stats = tracked

    def _features(self, view: View, depth: int) -> ViewFeatures:
        network: Any = self.network
        encoded = encode_view(network, view)
        decoded = crop_centre(network.decode(encoded), list(view["image"].shape[2:])) if depth >= 1 else None
        logits = network.head(decoded) if depth >= 2 else None
        return ViewFeatures(encoded, decoded, logits)

    def _shared_features(self, names: Sequence[str], views: Mapping[str, View]) -> dict[str, ViewFeatures]:
        """Views in one pass; the ones to be decoded come first, so that they are a slice of the batch."""
        names = sorted(names, key=lambda name: -self._depth_of_view[name])
        network: Any = self.network
        numbers = [views[name]["image"].shape[0] for name in names]
        read = ("image", "condition") if self._condition else ("image",)
        joint = {key: torch.cat([views[name][key] for name in names]) for key in read}
        encoded, size = encode_view(network, joint), list(joint["image"].shape[2:])

        def reaching(depth: int) -> int:
            return sum(one for name, one in zip(names, numbers, strict=True) if self._depth_of_view[name] >= depth)

        decoded = None
        if reaching(1):
            decoded = crop_centre(network.decode([level[: reaching(1)] for level in encoded]), size)
        logits = network.head(decoded[: reaching(2)]) if decoded is not None and reaching(2) else None
        features, start = {}, 0
        for name, number in zip(names, numbers, strict=True):
            part, depth = slice(start, start + number), self._depth_of_view[name]
            features[name] = ViewFeatures(
                [level[part] for level in encoded],
                decoded[part] if decoded is not None and depth >= 1 else None,
                logits[part] if logits is not None and depth >= 2 else None,
            )
            start += number
        return features

    def _check_condition(self, views: Mapping[str, View]) -> None:
        for name in self._depth_of_view:
            found = views[name].get("condition")
            if self._condition and (found is None or found.shape[1:] != (len(self._condition),)):
                numbers = "none" if found is None else f"a tensor {tuple(found.shape)}"
                problem = f"the network is told {', '.join(self._condition)}, the batch holds {numbers}"
                raise InputError(f"view {name}", problem, "give the data set the same features, or train without FiLM")

    def _with_derived(self, views: Mapping[str, View], context: StepContext) -> dict[str, View]:
        """The views of the batch and those that tasks make from them."""
        missing = sorted({name for task in self.tasks.values() for name in cast(Task, task).sources} - set(views))
        if missing:
            raise InputError("views", f"a task reads {missing[0]!r}, there are {sorted(views)}", "declare the view")
        known = dict(views)
        for name, task in self.tasks.items():
            derived = cast(Task, task).derived_views(views, context)
            doubled = known.keys() & derived.keys()
            if doubled:
                raise InputError(f"tasks::{name}", f"makes the view {doubled.pop()!r} again", "take one task out")
            known.update(derived)
        return known

    def _passes(self, views: Mapping[str, View]) -> list[list[str]]:
        """Names of the views that go through the network together."""
        if self._normalising:
            return [[name] for name in self._depth_of_view]
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for name in self._depth_of_view:
            by_shape.setdefault(tuple(views[name]["image"].shape[1:]), []).append(name)
        return list(by_shape.values())

    def forward(self, views: Mapping[str, View], context: StepContext) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Named losses and named outputs of one step.

        Args:
            views: every view that is a source of a task.
            context: where in the run this is.

        Raises:
            InputError: if a task names a view that is not there or lacks the network's condition, or two tasks name a
                loss or a view of their own alike.
        """
        views = self._with_derived(views, context)
        self._check_condition(views)
        features: dict[str, ViewFeatures] = {}
        for names in self._passes(views):
            if len(names) > 1:
                features |= self._shared_features(names, views)
            else:
                with self._running_moments_of(names[0]):
                    features[names[0]] = self._features(views[names[0]], self._depth_of_view[names[0]])
        losses: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        for name, task in self.tasks.items():
            result = task(features, views, context)
            doubled = losses.keys() & result.losses.keys()
            if doubled:
                raise InputError(f"tasks::{name}", f"loss {doubled.pop()!r} is named by two tasks", "rename one task")
            losses.update(result.losses)
            outputs.update(result.outputs)
        return losses, outputs

    def after_step(self, step: int) -> None:
        """Let every task update what is not learnt by gradient."""
        for task in self.tasks.values():
            task.after_step(step)  # type: ignore[operator]


def _leaves(outputs: Sequence[Tensor]) -> set[int]:
    """Identities of the parameters that tensors were computed from."""
    found, seen = set(), set()
    waiting = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found

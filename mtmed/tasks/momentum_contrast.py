"""Contrast with a queue of earlier images in place of a large batch (MoCo v2)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mtmed.distributed import all_reduce_sum, gather_with_gradient
from mtmed.errors import InputError
from mtmed.tasks.pooled_head import PooledHead
from mtmed.tasks.slice_pairs import require_pairs
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures, encode_view

__all__ = ["MomentumContrast"]

_UNFILLED = -1


class MomentumContrast(Task):
    r"""Each image finds its positive among the keys of earlier images, by the cosine of embeddings.

    The query q comes from the network that is trained, its positive key from a copy of encoder and projector that
    follows at the pace of the momentum m, and the other keys from a queue of those of earlier steps:

    .. math:: L = -\frac{1}{B} \sum_i \log \frac{\exp(q_i k_i^+ / \tau)}
        {\exp(q_i k_i^+ / \tau) + \sum_{j \in N(i)} \exp(q_i k_j / \tau)}, \qquad
        \theta_k \leftarrow m \theta_k + (1 - m) \theta_q.

    N(i) is the queue without places that are still empty and without keys of the same volume nearer than
    `minimum_distance` slices, which show the same anatomy. Where views have no ``slice``, no key of the same volume is
    a negative. While the queue is empty the loss is 0.

    The copy never uses statistics of a batch, through which query and key of one step would know each other: it stays
    in evaluation mode, and the running moments of batch normalisation follow those of the network like the weights do
    (Cai et al. 2021, arXiv 2101.08482), where MoCo shuffles the batch among GPUs. After each step the copy moves and
    the keys of all processes, in the order of positions, enter the queue. Copy and queue are in the state dict.

    Source: He et al. 2020 (arXiv 1911.05722) and Chen et al. 2020 (arXiv 2003.04297), which Chia, Gu, Lui 2022 propose
    for small batches. MoCo v2 has a queue of 65536, a momentum of 0.999 and a temperature of 0.2; our queue and
    momentum are for data sets of thousands of slices.

    Args:
        query: the view whose images are queries.
        key: the view whose images are the positives, sample by sample; None takes for sample 2i the neighbouring slice
            2i + 1 of the same view, and the other way round.
        symmetric: each of the two views is query once and key once, as in MoCo v3 (Chen et al. 2021, arXiv 2104.02057);
            the keys of both enter the queue, which v3 replaces by the batch, and there is no predictor.
        queue: keys in the queue.
        momentum: m.
        temperature: tau.
        features: length of the embedding.
        minimum_distance: slices from which a key of the same volume is a negative; with 0 every key is one.

    Raises:
        InputError: if an option is out of range; at a step, if the batch does not consist of pairs and `key` is None.
    """

    keys: Tensor
    volumes: Tensor
    slices: Tensor
    next_place: Tensor

    def __init__(
        self,
        *,
        query: str = "patch",
        key: str | None = None,
        symmetric: bool = False,
        queue: int = 4096,
        momentum: float = 0.99,
        temperature: float = 0.2,
        features: int = 128,
        minimum_distance: int = 3,
    ) -> None:
        for name, value, least in (
            ("queue", queue, 1),
            ("features", features, 1),
            ("minimum_distance", minimum_distance, 0),
        ):
            if value < least:
                raise InputError(name, f"is {value}", f"give a whole number from {least}")
        if not 0 <= momentum < 1:
            raise InputError("momentum", f"is {momentum}", "give a number from 0 and below 1, for example 0.99")
        if not 0 < temperature < float("inf"):
            raise InputError("temperature", f"is {temperature}", "give a positive number, for example 0.2")
        if symmetric and key is None:
            raise InputError("symmetric", "is true, and there is one view only", "name another one as key")
        answering = query if key is None else key
        directions = ((query, answering), (answering, query)) if symmetric else ((query, answering),)
        asking = tuple(view for view, _ in directions)
        sources = tuple(dict.fromkeys((query, answering)))
        super().__init__(views=asking, needs="encoded", levels=(-1,), sources=sources)
        self.key = key
        self.directions = directions
        self.momentum = momentum
        self.temperature = temperature
        self.features = features
        self.minimum_distance = minimum_distance
        self.register_buffer("keys", torch.zeros(queue, features))
        self.register_buffer("volumes", torch.full((queue,), _UNFILLED))
        self.register_buffer("slices", torch.zeros(queue, dtype=torch.int64))
        self.register_buffer("next_place", torch.zeros((), dtype=torch.int64))
        self._fresh: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, network: Any) -> None:
        """Build the projector, and the copies of encoder and projector."""
        channels = network.level_channels[-1]
        self.projector = PooledHead(channels, hidden=channels, features=self.features)
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.momentum_network = _encoder_copy(network)
        # in a tuple, so that the network does not become part of the task
        self._followed = (network,)

    def train(self, mode: bool = True) -> "MomentumContrast":
        """As usual, but the copies stay in evaluation mode."""
        super().train(mode)
        for name in ("momentum_network", "momentum_projector"):
            if hasattr(self, name):
                getattr(self, name).eval()
        return self

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``momentum_contrast``; ``momentum_contrast/accuracy``, the share of queries that find their positive.

        The accuracy is left out while queries are compared with nothing. ``momentum_contrast/negatives`` is the mean
        number of keys that a query is compared with.
        """
        compared = []
        self._fresh = []
        for query, key in self.directions:
            keys = self._embed_keys(views[key])
            if self.key is None:
                require_pairs(views[query])
                positives = keys.reshape(-1, 2, self.features).flip(1).flatten(0, 1)
            else:
                positives = keys
            compared.append(self._compare(features[query], views[query], positives))
            self._fresh.append(self._gather(keys, views[key], context))
        similarity, negative = (torch.cat(parts) for parts in zip(*compared, strict=True))
        with torch.autocast(similarity.device.type, enabled=False):
            first = torch.zeros(len(similarity), dtype=torch.int64, device=similarity.device)
            loss = cross_entropy(similarity / self.temperature, first)
        return TaskOutput({"momentum_contrast": loss}, self._look_at(similarity.detach(), negative))

    def _compare(self, features: ViewFeatures, view: View, positives: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of each query with its positive and the queue, B 1 + Q, and which of the queue are negatives, B Q."""
        embedded = self.projector(features.encoded)
        volumes, slices = _places(view)
        filled = self.volumes != _UNFILLED
        near = (volumes[:, None] == self.volumes) & ((slices[:, None] - self.slices).abs() < self.minimum_distance)
        negative = filled & ~near
        with torch.autocast(embedded.device.type, enabled=False):
            queries = normalize(embedded, dim=1)
            others = (queries @ self.keys.T).masked_fill(~negative, -torch.inf)
            return torch.cat([(queries * positives).sum(1, keepdim=True), others], dim=1), negative

    @torch.no_grad()
    def _embed_keys(self, view: View) -> Tensor:
        encoded = encode_view(self.momentum_network, view)
        return normalize(self.momentum_projector(encoded), dim=1)

    @torch.no_grad()
    def _look_at(self, similarity: Tensor, negative: Tensor) -> dict[str, Tensor]:
        compared = negative.any(1)
        found = ((similarity[:, :1] > similarity[:, 1:]).all(1) & compared).sum()
        sums = torch.stack([found, compared.sum(), negative.sum(), found.new_tensor(len(similarity))]).double()
        found, comparisons, negatives, count = all_reduce_sum(sums)
        outputs = {"momentum_contrast/negatives": negatives / count}
        # a query that is compared with nothing finds nothing
        return outputs | ({"momentum_contrast/accuracy": found / comparisons} if comparisons > 0 else {})

    @torch.no_grad()
    def _gather(self, keys: Tensor, view: View, context: StepContext) -> tuple[Tensor, Tensor, Tensor]:
        """Keys of all processes with their volumes and slices, in the order of positions."""
        positions = torch.tensor(context.positions, device=keys.device)
        numbers = gather_with_gradient(torch.stack([positions, *_places(view)], dim=1))
        keys, order = gather_with_gradient(keys), numbers[:, 0].argsort()
        return keys[order], numbers[order, 1], numbers[order, 2]

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Let the copies follow, and put the keys of the step into the queue, in place of the oldest."""
        (network,) = self._followed
        _follow(self.momentum_network, network, self.momentum)
        _follow(self.momentum_projector, self.projector, self.momentum)
        length = len(self.keys)
        for fresh in self._fresh:
            keys, volumes, slices = (tensor[-length:] for tensor in fresh)
            places = (self.next_place + torch.arange(len(keys), device=keys.device)) % length
            self.keys[places] = keys.to(self.keys.dtype)
            self.volumes[places], self.slices[places] = volumes, slices
            self.next_place.copy_((self.next_place + len(keys)) % length)
        self._fresh = []


def _places(view: View) -> tuple[Tensor, Tensor]:
    """Number of the volume and of the slice of each sample, B; slice 0 where the view does not tell."""
    volumes = view["volume"].long()
    return volumes, view["slice"].long() if "slice" in view else torch.zeros_like(volumes)


def _encoder_copy(network: Any) -> nn.Module:
    """Copy of what ``encode`` needs, without gradient, in evaluation mode."""
    copied: nn.Module = copy.deepcopy(network)
    for name, child in copied.named_children():
        names = [f"{name}.{parameter}" for parameter, _ in child.named_parameters()]
        if names and not any(parameter.startswith(tuple(network.encoder_prefixes)) for parameter in names):
            setattr(copied, name, nn.Identity())
    return copied.requires_grad_(False).eval()


def _follow(copied: nn.Module, followed: nn.Module, momentum: float) -> None:
    """Move parameters and running moments towards those of the followed module; take over counters."""
    source = {**dict(followed.named_parameters()), **dict(followed.named_buffers())}
    for name, tensor in [*copied.named_parameters(), *copied.named_buffers()]:
        if tensor.is_floating_point():
            tensor.lerp_(source[name], 1 - momentum)
        else:
            tensor.copy_(source[name])

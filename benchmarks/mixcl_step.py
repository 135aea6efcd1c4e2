"""One MixCL step against the same step written plainly, and what the engine adds to it.

    python benchmarks/mixcl_step.py --patch 48 --rounds 3

Plain: float32, one encoder and decoder pass per view, MONAI's BarlowTwinsLoss on flattened features, voxels drawn by
``torch.multinomial``, exponentials and masks for the label loss, AdamW with its default implementation. Ours: what
`MultiTaskTrainer` runs (one shared pass, moments, fused AdamW, bfloat16 where the CPU has it). Both start from the
views, with the same weights. Agreement: the losses of both on the same voxels; the exit status is 1 if they differ.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from mixcl_losses import distances, organs
from monai.handlers import LrScheduleHandler
from monai.losses import BarlowTwinsLoss
from scipy.ndimage import distance_transform_edt
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from torch import Tensor
from torch.nn import functional
from volume_store import store_chain, write_cohort

from mtmed.data import CropDataset, PatchPair, VolumeStore, crop_loader
from mtmed.engines import MultiTaskTrainer
from mtmed.engines.precision import choose_precision
from mtmed.handlers import Checkpoint, EncoderWriter, LossHistory, Progress, TensorBoardLog
from mtmed.losses import (
    ConstantWeighting,
    CrossCorrelationLoss,
    LabelContrastLoss,
    PixelSample,
    boundary_weight,
    nearest_downsample,
    sample_pixels,
)
from mtmed.networks import build_network
from mtmed.randomness import torch_generator
from mtmed.tasks import MixCLConsistency, MultiTaskModel, Reconstruction, StepContext
from mtmed.transforms import Affine, Elastic, GaussianNoise, IntensityShift, ViewMaker

VIEWS = ("view_a", "view_b", "auxiliary")
WEIGHTS = {"identity": 1.0, "label": 0.01, "reconstruction": 0.01}
REDUNDANCY, TEMPERATURE, LEVEL, BUDGET = 0.0051, 0.1, 1, 256
CPU = torch.device("cpu")
Identity = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[str, tuple[int, ...]], PixelSample]
AllViews = dict[str, dict[str, Tensor]]


def make_model(patch: tuple[int, ...], width: float) -> MultiTaskModel:
    torch.manual_seed(0)
    hidden = int(768 * width) // 12 * 12
    network = build_network(
        {
            "_target_": "mtmed.networks.UNETR",
            "in_channels": 1,
            "out_channels": 1,
            "img_size": list(patch),
            "feature_size": max(2, int(16 * width)),
            "hidden_size": hidden,
            "mlp_dim": 4 * hidden,
        }
    )
    consistency = MixCLConsistency(
        identity=CrossCorrelationLoss(redundancy_weight=REDUNDANCY),
        label=LabelContrastLoss(temperature=TEMPERATURE),
        pixels_per_class=BUDGET,
        label_level=LEVEL,
    )
    return MultiTaskModel(
        network=network, tasks={"consistency": consistency, "reconstruction": Reconstruction(views=VIEWS)}
    ).train()


def make_views(side: int) -> AllViews:
    generator = torch.Generator().manual_seed(0)
    views: AllViews = {}
    label = organs(side, 5)
    for name, voxels in zip(VIEWS, (label, label, label[::-1].copy()), strict=True):
        distance = torch.from_numpy(distances(voxels, distance_transform_edt))[None, None]
        clean = torch.from_numpy(voxels).float()[None, None] / 6
        views[name] = {
            "image": clean + 0.1 * torch.randn(clean.shape, generator=generator),
            "clean": clean,
            "label": torch.from_numpy(voxels)[None, None],
            "distance": distance,
            "dataset": torch.zeros(1, dtype=torch.int64),
        }
    return views


def our_losses(model: MultiTaskModel, views: AllViews, dtype: torch.dtype) -> dict[str, Tensor]:
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        losses, _ = model(views, StepContext(seed=0, step=0, positions=(0,)))
    return losses


def monai_identity(first: Tensor, second: Tensor) -> Tensor:
    loss: Tensor = BarlowTwinsLoss(lambd=REDUNDANCY)(*(view.movedim(1, -1).flatten(0, -2) for view in (first, second)))
    return loss


def written_identity(first: Tensor, second: Tensor) -> Tensor:
    """As MONAI's, but with the same divisor in deviation and correlation, which matters where voxels are few."""
    rows = [view.movedim(1, -1).flatten(0, -2) for view in (first, second)]
    rows = [(row - row.mean(0)) / (row.var(0, unbiased=False) + 1e-8).sqrt() for row in rows]
    matrix = rows[0].T @ rows[1] / len(rows[0])
    unit = torch.eye(len(matrix))
    return (torch.where(unit > 0, 1.0, REDUNDANCY) * (matrix - unit).square()).sum()


def multinomial(views: AllViews) -> Draw:
    def draw(name: str, size: tuple[int, ...]) -> PixelSample:
        label = nearest_downsample(views[name]["label"], size).flatten()
        weight = boundary_weight(nearest_downsample(views[name]["distance"], size)).flatten()
        parts = []
        for value in label.unique():
            candidates = (label == value).nonzero().squeeze(1)
            parts.append(candidates[torch.multinomial(weight[candidates], min(BUDGET, len(candidates)))])
        voxels = torch.cat(parts)
        return PixelSample(torch.zeros_like(voxels), voxels, label[voxels].long())

    return draw


def same_voxels(views: AllViews) -> Draw:
    """The voxels that our step draws."""

    def draw(name: str, size: tuple[int, ...]) -> PixelSample:
        weight = boundary_weight(nearest_downsample(views[name]["distance"], size))
        generator = torch_generator(0, 0, 0, f"pixels/{name}")
        return sample_pixels(
            weight, nearest_downsample(views[name]["label"], size), per_class=BUDGET, generators=[generator]
        )

    return draw


def plain_losses(model: MultiTaskModel, views: AllViews, identity: Identity, draw: Draw) -> dict[str, Tensor]:
    network: Any = model.network
    projectors: Any = model.tasks["consistency"].projectors
    head: Any = model.tasks["reconstruction"].head
    encoded = {name: network.encode(views[name]["image"]) for name in VIEWS}
    errors = [(head(network.decode(encoded[name])) - views[name]["clean"]).square().mean() for name in VIEWS]
    projected = {
        name: [projectors[str(level)](feature) for level, feature in enumerate(encoded[name])] for name in VIEWS[:2]
    }
    other = projectors[str(LEVEL)](encoded["auxiliary"][LEVEL])
    vectors, labels = [], []
    for name, feature in (("view_a", projected["view_a"][LEVEL]), ("auxiliary", other)):
        sample = draw(name, tuple(feature.shape[2:]))
        vectors.append(functional.normalize(feature.flatten(2)[sample.batch, :, sample.voxel], dim=1))
        labels.append(sample.label)
    exponentials = (vectors[0] @ vectors[1].T / TEMPERATURE).exp()
    positive = (labels[0][:, None] == labels[1]) & (labels[0] > 0)[:, None]
    anchors = positive.any(1)
    top, bottom = (exponentials * positive).sum(1)[anchors], exponentials.sum(1)[anchors]
    return {
        "identity": torch.stack([identity(a, b) for a, b in zip(*projected.values(), strict=True)]).sum(),
        "label": (bottom / top).log().mean(),
        "reconstruction": torch.stack(errors).mean(),
    }


def stepper(
    model: MultiTaskModel, losses: Callable[[MultiTaskModel], dict[str, Tensor]], **options: Any
) -> Callable[[], float]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-5, **options)
    weighting = ConstantWeighting(weights=WEIGHTS)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = weighting(losses(model), 0).total
        total.backward()
        optimizer.step()
        return total.item()

    return step


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    return max(abs(ours[name].item() / theirs[name].item() - 1) for name in theirs)


def measure_step(side: int, width: float, rounds: int, profile: bool) -> None:
    views, dtype = make_views(side), choose_precision("auto", CPU)
    model = make_model((side,) * 3, width)
    with torch.no_grad():
        plain = plain_losses(copy.deepcopy(model), views, written_identity, same_voxels(views))
        exact = our_losses(copy.deepcopy(model), views, torch.float32)
        mixed = our_losses(copy.deepcopy(model), views, dtype)
    agreements = [agreement(largest_difference(exact, plain), 1e-4, "losses")]
    agreements.append(agreement(largest_difference(mixed, plain), 0.02, "losses"))
    chosen = str(dtype).removeprefix("torch.")
    plain_model, exact_model = copy.deepcopy(model), copy.deepcopy(model)
    steps = {
        "plain": stepper(plain_model, lambda m: plain_losses(m, views, monai_identity, multinomial(views))),
        "float32": stepper(exact_model, lambda m: our_losses(m, views, torch.float32), fused=True),
        "auto": stepper(model, lambda m: our_losses(m, views, dtype), fused=True),
    }
    seconds = compare(steps, rounds=rounds)
    rows = [["plain step, float32", seconds_text(seconds["plain"]), "1x", "-"]]
    for name, text, agrees in zip(("float32", "auto"), ("float32", f"auto: {chosen}"), agreements, strict=True):
        gain = spread_text(ratio(seconds["plain"], seconds[name]))
        rows.append([f"mtmed, {text}", seconds_text(seconds[name]), gain, agrees])
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    title = (
        f"MixCL step, views of {side}^3, {millions:.1f} M parameters, {torch.get_num_threads()} threads; {machine()}"
    )
    print_table(title, ["step", "time", "ratio", "agreement"], rows)
    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            steps["auto"]()
        print(record.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=40))


class Stopwatch:
    """Adds up the time spent in wrapped calls; a wrapped call inside another counts once.

    Beside the time on the clock, ``busy`` is what the main thread worked in all of them, which other processes on the
    machine leave alone.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.busy = 0.0
        self._inside = False

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, its time added under a name."""

        def timed(*args: Any, **options: Any) -> Any:
            if self._inside:
                return call(*args, **options)
            self._inside, start, busy = True, time.perf_counter(), time.thread_time()
            try:
                return call(*args, **options)
            finally:
                self.busy += time.thread_time() - busy
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
                self._inside = False

        return timed


class TimedLoader:
    """A loader whose batches count as data."""

    def __init__(self, loader: Iterable[Any], watch: Stopwatch) -> None:
        self.loader, self.watch = loader, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        following = self.watch.wrap("data", iter(self.loader).__next__)
        while True:
            yield following()


def measure_engine(iterations: int) -> None:
    """Run the trainer with the handlers of the bundle on a tiny network, and time everything that has a name."""
    watch, side, epochs = Stopwatch(), (32, 32, 32), 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cohort(folder, (96, 96, 48), 2)
        volumes = VolumeStore(folder / "store", transforms=store_chain(), distance="voxel").build(cases)
        data = CropDataset(volumes, PatchPair(patch_size=side), seed=0, global_batch_size=1)
        model = make_model(side, 0.125)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * iterations)
        weighting = ConstantWeighting(weights=WEIGHTS)
        views = ViewMaker(
            views={"view_a": "patch", "view_b": "patch", "auxiliary": "auxiliary"},
            geometry=[Elastic(probability=0.5), Affine(probability=0.5, rotate_degrees=15.0)],
            intensity=[IntensityShift(probability=0.2), GaussianNoise(probability=0.2)],
        )
        for part, module in (("augmentation", views), ("model and losses", model), ("weighting", weighting)):
            module.forward = watch.wrap(part, module.forward)  # type: ignore[method-assign]
        trainer = MultiTaskTrainer(
            device=CPU,
            max_epochs=epochs,
            epoch_length=iterations,
            train_data_loader=TimedLoader(crop_loader(data, batch_size=1, workers=0), watch),
            model=model,
            optimizer=optimizer,
            weighting=weighting,
            views=views,
            picture_interval=0,
            train_handlers=[
                Checkpoint(path=folder / "checkpoint.pt", model=model, optimizer=optimizer, lr_scheduler=schedule),
                LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
                EncoderWriter(path=folder / "encoder.pt", network=model.network, settings={}),
                LossHistory(path=folder / "losses.csv"),
                TensorBoardLog(log_dir=folder),
                Progress(),
            ],
        )
        trainer._optimise = watch.wrap("backward and optimiser", trainer._optimise)  # type: ignore[method-assign]
        optimizer.zero_grad = watch.wrap("backward and optimiser", optimizer.zero_grad)  # type: ignore[method-assign]
        marks: list[tuple[float, ...]] = []
        for event, handlers in trainer._event_handlers.items():
            trainer._event_handlers[event] = [(watch.wrap("handlers", call), *rest) for call, *rest in handlers]

        def mark() -> None:
            clock, busy = time.perf_counter(), time.thread_time()
            marks.append((clock - sum(watch.seconds.values()), busy - watch.busy))

        trainer.add_event_handler(Events.ITERATION_STARTED, mark)
        trainer.run()
    count = epochs * iterations
    rows = [[part, f"{1e3 * total / count:.3f} ms"] for part, total in watch.seconds.items()]
    pairs = list(zip(marks[1:], marks[:-1], strict=True))
    wall, busy = (1e3 * statistics.median(end[k] - start[k] for end, start in pairs) for k in range(2))
    rows.append(["everything else, median on the clock", f"{wall:.3f} ms"])
    rows.append(["everything else, median of the main thread's work", f"{busy:.3f} ms"])
    title = f"Trainer with the bundle's handlers, tiny network, {count} iterations; {machine()}"
    print_table(title, ["part", "per iteration"], rows)
    print(f"everything else: {agreement(busy, 1.0, 'ms of work')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=48, help="side of the views, voxels, a multiple of 16")
    parser.add_argument("--width", type=float, default=1.0, help="widths of the network; 1 is the paper's")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, in alternating order")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch (all processors by default)")
    parser.add_argument("--iterations", type=int, default=40, help="iterations per epoch of the engine's run")
    parser.add_argument("--profile", action="store_true", help="also print where the time of our step goes")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    measure_engine(options.iterations)
    measure_step(options.patch, options.width, options.rounds, options.profile)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())

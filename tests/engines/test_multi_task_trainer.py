"""A step against a plain loop of the same pieces, and what other people's handlers find."""

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler, TerminateOnNan
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver, StatsHandler, TensorBoardStatsHandler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.engines import batch_roles
from mtmed.errors import InputError
from mtmed.losses import ConstantWeighting


def recorded(trainer):
    outputs = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    trainer.run()
    return outputs


def test_a_run_equals_a_plain_loop_of_the_same_pieces(make_trainer, batches, tiny_model):
    outputs = recorded(make_trainer(max_epochs=2, epoch_length=2, seed=5, dropout=0.0))
    trainer = make_trainer()
    model, views = tiny_model(), trainer.views
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step, output in enumerate(outputs):
        batch = batches().batch(step)
        seen = views(
            {"patch": {k: batch[k] for k in ("image", "label", "volume")}}, seed=5, step=step, positions=(0, 1)
        )
        logits = model.network(seen["patch"]["image"])
        decoded = model.network.decode(model.network.encode(seen["patch"]["image"]))
        segmentation = model.tasks["segmentation"].losses["segmentation"](logits, seen["patch"]["label"].long())
        error = (model.tasks["reconstruction"].head(decoded) - seen["patch"]["clean"]).square().mean()
        total = segmentation + 0.5 * error
        assert output["losses"]["segmentation"] == pytest.approx(segmentation.item(), rel=1e-5)
        assert output["losses"]["reconstruction"] == pytest.approx(error.item(), rel=1e-5)
        assert output["loss"] == pytest.approx(total.item(), rel=1e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


def test_output_says_what_a_step_was(make_trainer):
    outputs = recorded(make_trainer(max_epochs=2, epoch_length=2))
    for output in outputs:
        assert output["loss"] == pytest.approx(
            output["losses"]["segmentation"] + 0.5 * output["losses"]["reconstruction"], rel=1e-6
        )
        assert output["weights"] == {"segmentation": 1.0, "reconstruction": 0.5}
        assert output["learning_rate"] == 0.1
    # pictures belong to the last iteration of an epoch
    assert [bool(output["views"]) for output in outputs] == [False, True, False, True]
    assert set(outputs[1]["outputs"]) == {"prediction", "reconstruction/patch"}
    assert set(outputs[1]["views"]["patch"]) >= {"image", "clean", "label"}
    assert outputs[0]["outputs"] == {}


@pytest.mark.parametrize(("interval", "expected"), [(0, []), (2, [4, 8])])
def test_pictures_come_at_their_interval(interval, expected, make_trainer):
    outputs = recorded(make_trainer(max_epochs=4, epoch_length=2, picture_interval=interval))
    assert [number for number, output in enumerate(outputs, 1) if output["views"]] == expected


def test_the_same_seed_gives_the_same_run_and_another_another(make_trainer):
    def losses(**options):
        return [output["loss"] for output in recorded(make_trainer(dropout=0.3, **options))]

    first = losses(seed=1)
    torch.rand(7)
    assert first == losses(seed=1)
    assert first != losses(seed=2)


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_gradients_are_cut_to_their_limit(limit, make_trainer):
    trainer = make_trainer(max_gradient_norm=limit)
    norms = []

    def measure(engine):
        gradients = [p.grad for p in engine.multi_task_model.parameters() if p.grad is not None]
        norms.append(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])).item())

    trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, measure)
    trainer.run()
    assert len(norms) == 3
    assert all(norm <= 1e-3 * 1.001 for norm in norms) == (limit is not None)


def test_loss_that_is_not_finite_ends_in_one_line_with_iteration_and_cases(make_trainer, batches):
    trainer = make_trainer(loader=batches(spoilt=1))
    with pytest.raises(InputError) as caught:
        trainer.run()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("iteration 2:")
    assert "reconstruction nan" in text
    assert "Toy/scan_1, Toy/scan_2" in text
    # the weights are those of the last good step
    assert all(bool(torch.isfinite(p).all()) for p in trainer.network.parameters())


@pytest.mark.parametrize(("spoilt", "known_at"), [(2, 3), (3, 3)], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("limit", [None, 1.0])
def test_gradient_that_is_not_finite_ends_the_run_and_names_its_own_iteration(spoilt, known_at, limit, make_trainer):
    trainer = make_trainer(max_epochs=2, max_gradient_norm=limit)
    parameter = next(p for p in trainer.network.parameters() if p.requires_grad)

    def spoil(gradient):
        return gradient * torch.inf if trainer.state.iteration == spoilt else gradient

    parameter.register_hook(spoil)
    with pytest.raises(
        InputError, match=rf"iteration {spoilt}: the gradient is not finite .*for Toy/scan_{spoilt - 1}"
    ):
        trainer.run()
    assert trainer.state.iteration == known_at


def test_too_high_a_learning_rate_ends_in_one_line(make_trainer):
    trainer = make_trainer(max_epochs=3)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 1e20
    with pytest.raises(InputError, match=r"iteration [2-4]: the (loss|gradient) is not finite"):
        trainer.run()


class Overflows(torch.amp.GradScaler):
    """Finds every gradient infinite, as float16 does where the loss scale is too high."""

    def __init__(self, scale):
        super().__init__("cpu", init_scale=scale)

    def step(self, optimizer):
        self._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = {torch.device("cpu"): torch.ones(1)}


@pytest.mark.parametrize(("scale", "ends"), [(65536.0, False), (2.0**-14, True)])
def test_overflows_of_float16_are_left_to_the_scaler_until_its_scale_is_lost(scale, ends, make_trainer):
    trainer = make_trainer()
    trainer.scaler = Overflows(scale)
    before = [p.clone() for p in trainer.network.parameters()]
    if ends:
        with pytest.raises(InputError, match="iteration 3: the loss scale of float16 fell to"):
            trainer.run()
    else:
        trainer.run()
        assert trainer.scaler.get_scale() == scale / 8
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))


def test_cases_without_names_are_told_by_number(make_trainer, batches):
    loader = (batch for batch in batches(spoilt=0))
    with pytest.raises(InputError, match="case 0, case 1"):
        make_trainer(loader=loader).run()


def test_loss_without_a_weight_is_named(make_trainer):
    with pytest.raises(InputError, match="segmentation"):
        make_trainer(weighting=ConstantWeighting(weights={"reconstruction": 1.0})).run()


@pytest.mark.parametrize("option", ["max_epochs", "epoch_length"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3"])
def test_lengths_that_are_no_whole_numbers_are_refused(option, value, make_trainer):
    with pytest.raises(InputError, match=option):
        make_trainer(**{option: value})


def test_bfloat16_trains_in_bfloat16_and_reports_finite_losses(make_trainer):
    trainer = make_trainer(precision="bfloat16", epoch_length=1)
    types = set()
    trainer.network.out.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    outputs = recorded(trainer)
    assert types == {torch.bfloat16}
    assert all(math.isfinite(output["loss"]) for output in outputs)
    assert all(p.dtype == torch.float32 for p in trainer.network.parameters())


def test_batch_is_split_into_roles(batches):
    batch = {**batches().batch(0), "auxiliary": {"image": torch.ones(1), "volume": torch.ones(1)}}
    roles = batch_roles(batch, torch.device("cpu"))
    assert set(roles) == {"patch", "auxiliary"}
    assert set(roles["patch"]) == {"image", "label", "volume", "dataset"}
    assert set(roles["auxiliary"]) == {"image", "volume"}


def test_monais_handlers_attach(make_trainer, tmp_path: Path, capsys):
    trainer = make_trainer(max_epochs=2)
    loss = lambda output: output["loss"]  # noqa: E731
    StatsHandler(name="stats", output_transform=loss).attach(trainer)
    TensorBoardStatsHandler(log_dir=str(tmp_path / "events"), output_transform=loss).attach(trainer)
    CheckpointSaver(str(tmp_path), {"model": trainer.model}, save_final=True, file_prefix="final").attach(trainer)
    outputs = recorded(trainer)
    assert f"{outputs[0]['loss']:.4f}" in capsys.readouterr().out
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    written = [event.value for event in events.Scalars("Loss")]
    assert written == pytest.approx([output["loss"] for output in outputs], rel=1e-6)
    (saved,) = tmp_path.glob("*.pt")
    state = torch.load(saved, weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in trainer.model.state_dict().items())


def test_ignites_handlers_attach(make_trainer):
    trainer = make_trainer()
    average = EMAHandler(trainer.model, momentum=0.5)
    average.attach(trainer, name="momentum", event=Events.ITERATION_COMPLETED)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, TerminateOnNan(output_transform=lambda output: output["loss"])
    )
    expected = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    def follow(engine):
        for name, value in engine.model.named_parameters():
            expected[name] = 0.5 * expected[name] + 0.5 * value.detach()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, follow)
    trainer.run()
    for name, value in average.ema_model.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name])
    assert trainer.state.iteration == 3


def test_terminate_on_nan_stops_a_run(make_trainer):
    trainer = make_trainer(max_epochs=5)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, TerminateOnNan(output_transform=lambda output: output["loss"] * math.nan)
    )
    trainer.run()
    assert trainer.state.iteration == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("limit", [None, 1.0])
def test_float16_scales_the_loss_on_a_gpu(limit, make_trainer, tiny_model):
    trainer = make_trainer(device="cuda", precision="float16", model=tiny_model().cuda(), max_gradient_norm=limit)
    trainer.optimizer.param_groups.clear()
    trainer.optimizer.add_param_group({"params": [p for p in trainer.model.parameters() if p.requires_grad]})
    assert trainer.scaler is not None
    assert all(math.isfinite(output["loss"]) for output in recorded(trainer))
    assert trainer.scaler.get_scale() > 1


def test_no_scaler_without_float16(make_trainer):
    assert make_trainer().scaler is None
    assert make_trainer(precision="bfloat16").scaler is None

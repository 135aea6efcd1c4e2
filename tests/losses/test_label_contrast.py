"""Label contrast against a float64 loop over pairs, by invariances, at extreme temperatures and by gradients."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import LabelContrastLoss, label_relation

FORMS = ("per_anchor", "log_out", "printed")
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batch(count: int = 14, partners: int = 17, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(count)
    parts: list[torch.Tensor] = []
    for number in (count, partners):
        parts.append(torch.randn(number, 5, generator=generator, dtype=torch.float64).to(dtype))
        parts.append(torch.randint(0, 4, (number,), generator=generator))
        parts.append(torch.randint(0, 2, (number,), generator=generator))
    return (parts[0], parts[1], parts[2], parts[3], parts[4], parts[5])


def relation_of(label: int, group: int, other_label: int, other_group: int, background: str) -> int:
    if group != other_group or label == other_label == 0:
        return -1
    if label == 0 or other_label == 0:
        return 0 if background == "negative" else -1
    return int(label == other_label)


def loop(values: Batch, temperature: float, form: str, background: str) -> float:
    anchors, labels, groups, partners, partner_labels, partner_groups = (value.numpy() for value in values)
    terms, global_top, global_all = [], 0.0, 0.0
    for vector, label, group in zip(anchors, labels, groups, strict=True):
        positive, everything = [], []
        for other, other_label, other_group in zip(partners, partner_labels, partner_groups, strict=True):
            relation = relation_of(label, group, other_label, other_group, background)
            cosine = vector @ other / np.linalg.norm(vector) / np.linalg.norm(other)
            if relation >= 0:
                everything.append(np.exp(cosine / temperature))
            if relation == 1:
                positive.append(np.exp(cosine / temperature))
        global_top += sum(positive)
        global_all += sum(everything)
        if positive and form == "per_anchor":
            terms.append(-np.log(sum(positive) / sum(everything)))
        elif positive:
            terms.append(np.mean([-np.log(one / sum(everything)) for one in positive]))
    return float(-np.log(global_top / global_all) if form == "printed" else np.mean(terms))


@pytest.mark.parametrize("background", ["negative", "ignore"])
@pytest.mark.parametrize("form", FORMS)
def test_loss_is_its_formula(form: str, background: str) -> None:
    values = batch()
    loss = LabelContrastLoss(temperature=0.1, form=form, background=background)  # type: ignore[arg-type]
    assert loss(*values).item() == pytest.approx(loop(values, 0.1, form, background), rel=1e-12)
    single = batch(dtype=torch.float32)
    assert loss(*single).item() == pytest.approx(loop(values, 0.1, form, background), rel=1e-4)
    assert loss(*single).dtype == torch.float32


@pytest.mark.parametrize("background", ["negative", "ignore"])
def test_relation_follows_labels_and_groups(background: str) -> None:
    _, labels, groups, _, partner_labels, partner_groups = batch()
    relation = label_relation(labels, groups, partner_labels, partner_groups, background=background)  # type: ignore[arg-type]
    assert relation.dtype == torch.int8
    for i in range(len(labels)):
        for j in range(len(partner_labels)):
            values = (labels[i], groups[i], partner_labels[j], partner_groups[j])
            assert relation[i, j] == relation_of(*(int(value) for value in values), background)


@pytest.mark.parametrize("form", FORMS)
def test_order_and_length_of_vectors_do_not_matter(form: str) -> None:
    anchors, labels, groups, partners, partner_labels, partner_groups = batch()
    loss = LabelContrastLoss(form=form)  # type: ignore[arg-type]
    order, other = torch.randperm(len(labels)), torch.randperm(len(partner_labels))
    shuffled = loss(
        3 * anchors[order], labels[order], groups[order], partners[other], partner_labels[other], partner_groups[other]
    )
    torch.testing.assert_close(shuffled, loss(*batch()))


def test_forms_agree_where_each_anchor_has_one_positive() -> None:
    generator = torch.Generator().manual_seed(3)
    anchors, partners = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    labels, groups = torch.arange(1, 5), torch.zeros(4, dtype=torch.int64)
    losses = [LabelContrastLoss(form=form)(anchors, labels, groups, partners, labels, groups) for form in FORMS[:2]]  # type: ignore[arg-type]
    torch.testing.assert_close(losses[0], losses[1])
    one = [
        LabelContrastLoss(form=form)(anchors[:1], labels[:1], groups[:1], partners, labels, groups)  # type: ignore[arg-type]
        for form in FORMS
    ]
    torch.testing.assert_close(one[0], one[1])
    torch.testing.assert_close(one[0], one[2])


def test_inequality_of_the_logarithm_orders_the_forms() -> None:
    # the log of a sum is at least the mean of the logs
    values = batch(40, 60)
    assert LabelContrastLoss(form="per_anchor")(*values) < LabelContrastLoss(form="log_out")(*values)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_the_numerical_gradient(form: str) -> None:
    anchors, labels, groups, partners, partner_labels, partner_groups = batch(6, 7)
    loss = LabelContrastLoss(temperature=0.5, form=form)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(
        lambda a, p: loss(a, labels, groups, p, partner_labels, partner_groups),
        (anchors.requires_grad_(), partners.requires_grad_()),
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("form", FORMS)
def test_low_temperature_does_not_overflow(form: str, sign: int) -> None:
    # all positives at cosine -1 and all negatives at +1, and the other way round: exp(200) and exp(-200) in float32
    labels, groups = torch.tensor([1, 1, 2]), torch.zeros(3, dtype=torch.int64)
    direction = torch.tensor([[1.0, 0.0]])
    anchors = (sign * direction).repeat(3, 1).requires_grad_()
    partners = torch.cat([-direction, direction]).requires_grad_()
    loss = LabelContrastLoss(temperature=0.005, form=form)  # type: ignore[arg-type]
    value = loss(anchors[:2], labels[:2], groups[:2], partners, torch.tensor([1, 2]), groups[:2])
    gradients = torch.autograd.grad(value, (anchors, partners))
    assert value.item() == pytest.approx(400.0 if sign == 1 else 0.0, abs=1e-3)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("counts", [(4, 5), (0, 5), (4, 0), (0, 0)])
def test_without_positives_the_loss_is_zero_and_in_the_graph(form: str, counts: tuple[int, int]) -> None:
    anchors, partners = (torch.randn(count, 3, requires_grad=True) for count in counts)
    labels, groups = torch.ones(counts[0], dtype=torch.int64), torch.zeros(counts[0], dtype=torch.int64)
    others, other_groups = torch.zeros(counts[1], dtype=torch.int64), torch.zeros(counts[1], dtype=torch.int64)
    loss = LabelContrastLoss(form=form)(anchors, labels, groups, partners, others, other_groups)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, (anchors, partners))
    assert loss.item() == 0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


def test_background_anchors_change_the_mean_in_no_way() -> None:
    anchors, labels, groups, partners, partner_labels, partner_groups = batch()
    foreground = labels > 0
    loss = LabelContrastLoss()
    torch.testing.assert_close(
        loss(anchors, labels, groups, partners, partner_labels, partner_groups),
        loss(anchors[foreground], labels[foreground], groups[foreground], partners, partner_labels, partner_groups),
    )


def test_half_precision_is_computed_in_float32() -> None:
    values = batch(dtype=torch.bfloat16)
    exact = (values[0].double(), *values[1:3], values[3].double(), *values[4:])
    with torch.autocast("cpu", torch.bfloat16):
        loss = LabelContrastLoss()(*values)
    assert loss.item() == pytest.approx(loop(exact, 0.1, "per_anchor", "negative"), rel=1e-4)


def test_unusable_options_are_named() -> None:
    for options in ({"temperature": 0.0}, {"temperature": 0.002}, {"form": "mean"}, {"background": "positive"}):
        with pytest.raises(InputError, match=next(iter(options))):
            LabelContrastLoss(**options)  # type: ignore[arg-type]

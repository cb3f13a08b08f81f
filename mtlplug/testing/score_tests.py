"""Tests of head, loss, decoding, metrics and export, and of training with them."""

from __future__ import annotations

import math
import unittest
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_leaves

from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, TaskFormat
from mtlplug.ragged import Splits
from mtlplug.testing import exported, trials
from mtlplug.testing.base import Contract
from mtlplug.testing.failures import ContractError, no_fault, require
from mtlplug.testing.specimen import SIZES, outcome, packed
from mtlplug.training.pretrain import smallest_read

NEAR = 1e-4
"""Largest difference of losses and predictions that is put down to rounding in float32."""


class ScoreTests(Contract):
    """Features in, losses, predictions and metrics out."""

    def test_losses_are_one_per_feature(self) -> None:
        """`loss` gives one finite number for each feature, unreduced."""
        with no_fault(
            "head and loss", "return one loss per feature, shape (B,): see mtlplug.ragged"
        ):
            losses = outcome(self.specimen.model(), self.specimen.data).losses
        require(
            all(map(math.isfinite, losses)),
            f"losses are {losses}",
            "a feature without a counted item has loss zero (mtlplug.ragged.mean_per_feature)",
        )

    def test_a_feature_scores_the_same_alone_and_packed(self) -> None:
        """Its loss and prediction do not depend on what it is packed with."""
        specimen = self.specimen
        model, data = specimen.model(), specimen.data
        together = outcome(model, data)
        for number in range(len(together.losses)):
            alone = outcome(model, data, [number])
            for what, ours, theirs in (
                ("loss", alone.losses[0], together.losses[number]),
                ("prediction", alone.predictions[0], together.predictions[number]),
            ):
                require(
                    _near(ours, theirs),
                    f"alone, feature {number} has the {what} {ours!r:.100}, packed with others "
                    f"{theirs!r:.100}",
                    f"{'loss' if what == 'loss' else 'decode'} or head mix features: use splits "
                    "to keep rows of different features apart (mtlplug.ragged)",
                )

    def test_the_gradient_reaches_the_head(self) -> None:
        """Every parameter of the head gets a gradient, and what the head reads gets one, too."""
        specimen = self.specimen
        model = specimen.model()
        model.train()
        model(packed(specimen.data)).loss.backward()
        head = dict(model.heads[0].named_parameters())
        require(head, "the head has no parameter", "return a module with something to learn")
        for name, parameter in head.items():
            require(
                parameter.grad is not None,
                f"parameter '{name}' of the head gets no gradient",
                "let every parameter take part in the scores, whatever the rows, and in the loss",
            )
            require(
                parameter.grad is not None and parameter.grad.isfinite().all(),
                f"the gradient of '{name}' is not finite",
                "avoid log(0) and division by zero, also where the result is not used",
            )
        total = sum(float(p.grad.abs().sum()) for p in head.values() if p.grad is not None)
        require(total > 0, "the head's gradient is zero", "let the loss depend on the scores")
        below = [p.grad for p in model.encoder.parameters() if p.grad is not None]
        require(
            any(grad.abs().sum() > 0 for grad in below),
            "no gradient reaches the encoder",
            "do not detach the rows the head gets, nor run it under no_grad",
        )

    def test_a_head_runs_on_rows_of_zeros(self) -> None:
        """A rank without features of the task runs its head on zeros, in step with the others."""
        specimen = self.specimen
        count = smallest_read(specimen.data)
        model = specimen.model(reads=count)
        lent = model.encoder.lent(self.format.borrows)
        with no_fault("on rows of zeros", "a head must take any rows, of one feature, too"):
            rows_RD = torch.zeros(count, SIZES["hidden_size"])
            scores = model.heads[0](rows_RD, Splits.of([count]), **lent)
        require(
            any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(scores)),
            f"the head returns {type(scores).__name__}",
            "return a tensor, or a tuple, list or dict of tensors",
        )

    def test_losses_are_the_same_every_time(self) -> None:
        """Two heads of one seed are equal, and without dropout nothing is left to chance."""
        specimen = self.specimen
        first = outcome(specimen.model(), specimen.data)
        second = outcome(specimen.model(), specimen.data)
        require(
            first.losses == second.losses and first.predictions == second.predictions,
            "two passes in evaluation mode, with heads of one seed, differ",
            "use nn.Dropout, which evaluation switches off, for all that is random in a head, and "
            "torch's generator for its first weights",
        )

    def test_rows_learnt_by_heart_score_best(self) -> None:
        """After learning all rows by heart `decode` and `metrics` find every answer right."""
        specimen = self.specimen
        name = trials.headline(specimen.data)
        untrained = trials.scored(specimen.data, outcome(specimen.model(), specimen.data))
        for metric, value in untrained.items():
            require(
                isinstance(value, float) and math.isfinite(value),
                f"metric '{metric}' is {value!r} for an untrained head",
                "return finite floats: 0.0 where a metric is not defined",
            )
        require(
            name in untrained,
            f"metrics() gives {', '.join(untrained)}, not '{name}'",
            "let it hold the headline",
        )
        learnt = self.learnt
        first, last = np.mean(learnt.before.losses), np.mean(learnt.after.losses)
        story = f"in {learnt.steps} steps the mean loss went from {first:.3g} to {last:.3g}"
        require(
            last < first or first < trials.LITTLE,
            story,
            "let the loss depend on scores and targets, and scores on the head's parameters",
        )
        if not trials.several_answers(specimen.data):
            raise unittest.SkipTest("all rows have the same answer, which is no test of metrics")
        require(
            learnt.metrics[name] >= self.least,
            f"{story}, and {name} is {learnt.metrics[name]:.4g} rather than {self.best:g}",
            "where the loss is near zero, decode or metrics read scores otherwise than loss does, "
            "or references are not what targets say; else the loss does not teach, or the rows "
            "give different answers to equal texts",
        )
        # Where nearly all answers are one, an untrained head may be right by chance.
        if untrained[name] >= learnt.metrics[name]:
            assert learnt.model is not None
            turned = outcome(learnt.model, specimen.data, turned=True)
            require(
                trials.scored(specimen.data, turned)[name] < learnt.metrics[name],
                f"{name} is {untrained[name]:.4g} before any training",
                "let metrics compare predictions with references",
            )

    def test_uncounted_features_have_no_loss(self) -> None:
        """Where nothing can be counted the loss is zero, alone and among others."""
        if not self.uncounted:
            raise unittest.SkipTest("no rows are given as uncounted")
        specimen = self.specimen
        encode = specimen.builder().encode(specimen.data.task)
        with no_fault("uncounted rows", "drop such rows and count them, or give targets IGNORE"):
            features = specimen.features(specimen.placed(self.uncounted), encode=encode)
        require(encode.counts, "uncounted rows are not counted", "use encode.count()")
        if not features:
            return
        others = specimen.features(specimen.placed())
        for together in (features, [*features, *others]):
            data = specimen.stored(together)
            model = specimen.model()
            losses = outcome(model, data).losses
            require(
                all(loss == 0 for loss in losses[: len(features)]),
                f"uncounted features have the losses {losses[: len(features)]}",
                f"give them targets of {IGNORE} (mtlplug.formats.IGNORE) and leave these out of "
                "the mean: ragged.mean_per_feature(losses, splits, targets != IGNORE)",
            )
            model(packed(data)).loss.backward()
            require(
                all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()),
                "uncounted features make the gradient NaN",
                "do not divide by the number of counted items, nor take log(0), before masking",
            )

    def test_one_answer(self) -> None:
        """Training rows that all have the same answer give a head and finite metrics."""
        specimen = self.of([self.rows[0]] * 3)
        with no_fault(
            "three equal rows",
            "let prepare, head, metrics and baselines work where there is one label",
        ):
            data = specimen.data
            store = data.stores["valid"]
            result = outcome(specimen.model(data.task), data)
            metrics = trials.scored(data, result)
            references = [store.reference(number) for number in range(len(store))]
            targets = [store.target(number) for number in range(len(store))]
            baselines = self.format.baselines(data.task, targets, references)
        for found in (metrics, *baselines.values()):
            for name, value in found.items():
                require(
                    math.isfinite(value),
                    f"where all answers are the same, metric '{name}' is {value}",
                    "return 0.0 where a metric is not defined: NaN spoils means and tables",
                )

    def test_state_is_saved_without_pickle(self) -> None:
        """The head is all in tensors: saved as safetensors and loaded again it scores the same."""
        specimen = self.specimen
        model, other = specimen.model(seed=1), specimen.model(seed=2)
        path = specimen.folder / "head.safetensors"
        with no_fault(
            "the head's state",
            "keep only parameters and buffers in it: no get_extra_state, nothing shared",
        ):
            state = model.heads[0].state_dict()
            save_file({name: value.contiguous() for name, value in state.items()}, path)
            other.heads[0].load_state_dict(load_file(path))
        require(
            outcome(model, specimen.data).losses == outcome(other, specimen.data).losses,
            "a head saved and loaded again scores otherwise",
            "keep what its scores depend on in parameters and buffers (register_buffer)",
        )

    def test_export_gives_equal_scores(self) -> None:
        """Where a stock transformers model is offered, its logits are the head's scores."""
        specimen = self.specimen
        model = specimen.model()
        encoder = specimen.model().encoder.model
        try:
            stock = self.format.export(specimen.data.task, model.heads[0], encoder)
        except MtlplugError as error:
            if type(self.format).export is TaskFormat.export:
                raise unittest.SkipTest(str(error)) from None
            raise ContractError(str(error), "offer a stock model for BERT, or no export") from None
        for number, feature in enumerate(specimen.features(specimen.placed())):
            ours = outcome(model, specimen.data, [number]).scores
            gap = exported.difference(stock.eval(), feature, ours)
            require(
                gap < NEAR,
                f"scores of the exported model differ from the head's by {gap:.2g}",
                "give the stock class the head's own weights, under the names it has for them",
            )

    def test_two_ranks_give_the_gradient_of_one(self) -> None:
        """Trained on two ranks under ZeRO the parameters are those of one padded process."""
        trials.check_ranks(self.specimen, self.stages)

    def test_a_run_that_was_killed_goes_on_the_same(self) -> None:
        """Killed and started again, a run leaves the same encoder and head, to the last bit."""
        trials.check_resume(self.specimen)


def _near(ours: Any, theirs: Any) -> bool:
    """Whether two JSON-like values are equal but for rounding."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_near, ours, theirs))
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_near(ours[k], theirs[k]) for k in ours)
    if type(ours) is float and type(theirs) is float:
        return ours == theirs or abs(ours - theirs) <= NEAR * max(1.0, abs(ours))
    return bool(ours == theirs)

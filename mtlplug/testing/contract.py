"""The tests that a format inherits. Nothing of pytest is imported: they also run without it."""

from __future__ import annotations

import inspect
import itertools
import math
import tempfile
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_leaves

from mtlplug.data.build import SHORTEST, TRAIN
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, TaskFormat
from mtlplug.plugin_manager import checked_format
from mtlplug.ragged import Splits
from mtlplug.testing import exported, odd_rows, trials
from mtlplug.testing.failures import ContractError, no_fault, require, sentence
from mtlplug.testing.specimen import Specimen, outcome, packed

NEAR = 1e-4
"""Largest difference of losses and predictions that is put down to rounding in float32."""

LEAST_ROWS = 4


class FormatContract:
    """Inherit it in a test module, under a name that begins with `Test`.

    Class attributes:
        format: the format.
        task: what a suite says of a task: `labels`, `options`, `metric`.
        rows: four to some dozen rows in the format's columns, JSON-like, with more than one
            answer among them, which can be told from the texts.
        uncounted: rows of which nothing can be counted, for example with a label that the
            others never have; empty where a format has no such rows.
        best: what the headline is when every answer is right.
        stages: of ZeRO, under which two ranks are compared with one.
    """

    format: ClassVar[TaskFormat]
    task: ClassVar[Mapping[str, Any]] = {}
    rows: ClassVar[Sequence[Mapping[str, Any]]]
    uncounted: ClassVar[Sequence[Mapping[str, Any]]] = ()
    best: ClassVar[float] = 100.0
    stages: ClassVar[Sequence[str]] = ("2",)

    _folder: ClassVar[tempfile.TemporaryDirectory[str]]
    _specimen: ClassVar[Specimen]
    _numbers: ClassVar[itertools.count[int]]

    @classmethod
    def setup_class(cls) -> None:
        """Make the folder of all files."""
        cls._folder = tempfile.TemporaryDirectory(prefix="mtlplug-contract-")
        cls._specimen = Specimen(cls.format, cls.task, cls.rows, Path(cls._folder.name))
        cls._numbers = itertools.count()

    @classmethod
    def teardown_class(cls) -> None:
        """Remove it."""
        cls._folder.cleanup()

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Specimen:
        """The format with other rows."""
        folder = Path(self._folder.name) / f"other{next(self._numbers)}"
        return Specimen(self.format, self.task, rows, folder)

    @property
    def specimen(self) -> Specimen:
        """The format with its rows made into features."""
        try:
            assert self._specimen.data
        except Exception:
            raise unittest.SkipTest(
                "rows do not become features (test_rows_become_features)"
            ) from None
        return self._specimen

    def test_the_format_is_declared(self) -> None:
        """Code, title, headline and columns say what it is, for a contract that is kept."""
        with no_fault("the class attributes", "see mtlplug.formats.TaskFormat"):
            checked_format(self.format)
        require(
            len(self.rows) >= LEAST_ROWS,
            f"{len(self.rows)} rows are too few",
            f"give {LEAST_ROWS} or more, with more than one answer among them",
        )
        columns = sorted({key for row in self.rows for key in row} - {*self.format.columns})
        require(
            not (columns and self.format.columns),
            f"rows have the columns {', '.join(columns)}, which the format does not declare",
            "add them to the class attribute columns: a suite can map no others",
        )

    def test_rows_become_features(self) -> None:
        """`prepare` and `features` take the rows; facts and references are JSON-like."""
        with no_fault(
            "rows become no features",
            "let prepare and features take the rows as a JSON Lines file has them",
        ):
            data = self._specimen.data
        require(len(data.stores[TRAIN]) > 1, "the rows make one feature", "give more rows")

    def test_reads_are_inside_their_feature(self) -> None:
        """Reads are places among the tokens of the feature's own sequences; targets are numbers."""
        specimen = self.specimen
        for feature in specimen.features(specimen.placed()):
            reads, tokens = np.asarray(feature.reads), sum(map(len, feature.sequences))
            require(
                (reads.ndim == 1 and np.issubdtype(reads.dtype, np.integer)) or not len(reads),
                f"reads are {feature.reads!r:.80}",
                "give a flat list of whole numbers",
            )
            require(
                all(0 <= read < tokens for read in reads.tolist()),
                f"reads {reads.tolist()} of a feature of {tokens} tokens",
                "count over the feature's sequences laid end to end, from 0",
            )
            target = np.asarray(feature.target, dtype=np.float64)
            require(np.isfinite(target).all(), f"a target is {target}", "leave such rows out")

    def test_features_are_the_same_every_time(self) -> None:
        """The same rows make the same features: they are kept on disk between runs."""
        specimen = self.specimen
        first, second = (
            [_plain(feature) for feature in specimen.features(specimen.placed())] for _ in "12"
        )
        require(
            first == second,
            "two calls of features() on the same rows give different features",
            "draw random numbers from a generator seeded by the row: random.Random(row.where)",
        )

    def test_features_come_as_rows_are_read(self) -> None:
        """Features are yielded on the way, so that memory does not grow with the dataset."""
        specimen = self.specimen
        read = 0

        def endless() -> Any:
            nonlocal read
            for read, row in enumerate(itertools.cycle(specimen.placed())):
                require(
                    read < 5000,
                    "features() reads 5000 rows and yields nothing",
                    "make it a generator; hand encode.texts a generator, not a list of all rows",
                )
                yield row

        encode = specimen.builder().encode(specimen.data.task)
        next(iter(self.format.features(specimen.data.task, endless(), encode)))

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
        model(packed(specimen.data)).loss.backward()  # type: ignore[no-untyped-call]
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
        count = int(min(filter(None, specimen.data.stores[TRAIN].read_counts_N.tolist()), default=1))
        model = specimen.model(reads=count)
        lent = model.encoder.lent(self.format.borrows)
        with no_fault("on rows of zeros", "a head must take any rows, of one feature, too"):
            scores = model.heads[0](torch.zeros(count, 32), Splits.of([count]), **lent)
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
        learnt = trials.learn_by_heart(specimen, 0.99 * self.best)
        first, last = np.mean(learnt.before.losses), np.mean(learnt.after.losses)
        story = f"in {learnt.steps} steps the mean loss went from {first:.3g} to {last:.3g}"
        require(
            learnt.metrics[name] >= 0.99 * self.best,
            f"{story}, and {name} is {learnt.metrics[name]:.4g} rather than {self.best:g}",
            "where the loss is near zero, decode or metrics read scores otherwise than loss does, "
            "or references are not what targets say; else the loss does not teach, or the rows "
            "give different answers to equal texts",
        )
        require(
            untrained[name] < learnt.metrics[name],
            f"{name} is {untrained[name]:.4g} before any training",
            "let metrics compare predictions with references; give rows with several answers",
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
            model(packed(data)).loss.backward()  # type: ignore[no-untyped-call]
            require(
                all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()),
                "uncounted features make the gradient NaN",
                "do not divide by the number of counted items, nor take log(0), before masking",
            )

    def test_empty_texts(self) -> None:
        """Rows with empty texts and lists are dropped and counted, refused, or harmless."""
        odd_rows.check_odd_values(self.specimen, odd_rows.EMPTY, texts_only=True)

    def test_unicode(self) -> None:
        """Any text may stand in a row: other scripts, signs of several characters, nothing."""
        odd_rows.check_odd_values(self.specimen, odd_rows.UNICODE, texts_only=True)

    def test_wrong_values_get_one_sentence(self) -> None:
        """Values missing or of another type are refused with their place, not by a traceback."""
        odd_rows.check_odd_values(self.specimen, odd_rows.WRONG, texts_only=False)

    def test_truncation_is_survived_and_counted(self) -> None:
        """Where less fits in a sequence features stay sound, and the user is told what was cut."""
        specimen = self.specimen
        sequences = [s for f in specimen.features(specimen.placed()) for s in f.sequences]
        longest = max(map(len, sequences))
        survived = 0
        for length in sorted({SHORTEST, longest // 2, longest * 3 // 4, longest - 2}):
            if not SHORTEST <= length < longest:
                continue
            survived += self._truncated(specimen, length)
        require(
            survived,
            f"rows of up to {longest} tokens cannot be cut",
            "give longer rows, or let the task's options allow shorter sequences",
        )

    def _truncated(self, specimen: Specimen, length: int) -> bool:
        """Whether sequences of this length were made; one sentence may say that they are not."""
        task = specimen.data.task
        task = type(task)(**vars(task) | {"options": {**task.options, "max_length": length}})
        encode = specimen.builder().encode(task)
        what = f"with sequences of up to {length} tokens"
        try:
            features = specimen.features(specimen.placed(), task, encode)
        except MtlplugError:
            return False
        except Exception as error:
            raise ContractError(
                f"{what}, features() raises {sentence(error)}",
                "read only tokens that are left; Encoded.truncated tells that some were cut",
            ) from error
        cut = any(s.truncated for f in features for s in f.sequences)
        require(
            encode.counts or not cut,
            f"{what} texts are cut without a word",
            "count what was lost: encode.count('words cut', number)",
        )
        if features:
            with no_fault(what, "reads and targets must fit the tokens that are left"):
                losses = outcome(specimen.model(task), specimen.stored(features, task)).losses
            require(all(map(math.isfinite, losses)), f"{what} losses are {losses}", "see loss()")
        return True

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


def _plain(feature: Feature) -> Any:
    """A feature as comparable values."""
    ids = [sequence.ids.tolist() for sequence in feature.sequences]
    numbers = [np.asarray(each).tolist() for each in (feature.reads, feature.target)]
    return ids, numbers, feature.reference


def _near(ours: Any, theirs: Any) -> bool:
    """Whether two JSON-like values are equal but for rounding."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_near, ours, theirs))
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_near(ours[k], theirs[k]) for k in ours)
    if type(ours) is float and type(theirs) is float:
        return ours == theirs or abs(ours - theirs) <= NEAR * max(1.0, abs(ours))
    return bool(ours == theirs)


def tests_of(contract: type[FormatContract]) -> dict[str, str]:
    """Names of the inherited tests in their order, and what each states."""
    return {
        name: inspect.getdoc(function) or name
        for name, function in vars(FormatContract).items()
        if name.startswith("test_") and callable(getattr(contract, name))
    }

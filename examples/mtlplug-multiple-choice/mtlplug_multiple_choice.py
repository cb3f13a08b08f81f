"""MC: which of several choices fits? COPA, Social IQA, RACE and the like.

Each choice is a sequence of its own, and those of a question travel together. The first token of
each gives one score, and a softmax runs over the choices: Radford et al. (2018), section 3.3, and
transformers' `BertForMultipleChoice`. Shapes: R choices, B questions.
"""

from itertools import accumulate, islice, tee

import mtlplug
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import SequenceHead, stock_model
from mtlplug.ragged import log_softmax_per_feature, split

NUMBERED = tuple(f"choice{number}" for number in range(1, 9))


class MultipleChoice(TaskFormat):
    """Choices in columns `choice1`, `choice2` ..., or as a list in `choices`.

    Labels are the names of the answers in the order of the choices: "0", "1" in COPA, "1" to "3"
    in Social IQA, "A" to "D" in RACE.
    """

    code, title, headline = "MC", "multiple choice", "accuracy"
    columns = ("context", "choices", *NUMBERED, "answer")
    chooses = ("reads",)  # one for each choice; the labels are but their names

    def prepare(self, task, rows):
        """The names of the answers, sorted, unless the suite has them."""
        if task.labels:
            return {}
        names = {_answer(row) for row in rows} - {""}
        return {"labels": sorted(names, key=int if all(map(str.isdecimal, names)) else None)}

    def features(self, task, rows, encode):
        """Read the first token of each choice; the target is the number of the right one."""
        usable, given = tee(_usable(task, rows, encode))
        encoded = encode.texts((context, choice) for context, all_, _ in given for choice in all_)
        for _, choices, answer in usable:
            sequences = tuple(islice(encoded, len(choices)))
            firsts = list(accumulate(map(len, sequences), initial=0))[:-1]
            yield Feature(sequences, reads=firsts, target=[answer], reference=answer)

    def head(self, task, hidden_size):
        """Dense, tanh, projection: one score for each choice."""
        return SequenceHead(hidden_size, 1)

    def loss(self, scores, targets, splits):
        """Cross entropy over the choices. *Shape:* (R, 1), (B,) -> (B,)."""
        return -log_softmax_per_feature(scores[:, 0], splits)[splits.starts_B + targets]

    def decode(self, task, scores, splits):
        """The number of the best choice."""
        return [int(scores_C.argmax()) for scores_C in split(scores[:, 0], splits)]

    def metrics(self, task, predictions, references):
        """Accuracy in percent."""
        right = sum(ours == gold for ours, gold in zip(predictions, references, strict=True))
        return {"accuracy": 100 * right / len(references)}

    def export(self, task, head, encoder):
        """`AutoModelForMultipleChoice` with equal scores: BERT, RoBERTa, XLM-R."""
        from transformers import AutoModelForMultipleChoice

        layers = {f"{encoder.base_model_prefix}.pooler.dense": head.dense}
        layers["classifier"] = head.projection
        return stock_model(AutoModelForMultipleChoice, encoder, ["score"], layers)


def _answer(row):
    """The name of the right choice; empty where it is hidden (-1)."""
    value = row.get("answer")
    return "" if value in (None, "", -1, "-1") else str(value)


def _usable(task, rows, encode):
    """Context, choices and number of the right one of each row that has an answer."""
    for row in rows:
        answer, context = _answer(row), row.value("context", str)
        choices = row.value("choices", list, None)
        if choices is None:
            choices = [row.value(name, str) for name in NUMBERED if row.get(name) is not None]
        if not all(isinstance(choice, str) for choice in choices):
            raise MtlplugError(f"{row.where}: column 'choices' must be a list of texts")
        names = task.labels[: len(choices)]
        if len(names) < len(choices):  # the first choices may lack a name as well as the last
            encode.count("rows with more choices than answers (name all as labels in the suite)")
        if not answer:
            encode.count("rows without answer")
        elif answer in names:
            yield context, choices, names.index(answer)
        else:
            raise MtlplugError(f"{row.where}: {unknown('answer', answer, names)}")


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [MultipleChoice()]

"""REG: a number for a text or a pair of texts, as in STS-B (Cer et al., 2017)."""

from itertools import tee

from scipy.stats import pearsonr, spearmanr
from torch.nn.functional import mse_loss

import mtlplug
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import SequenceHead


class Regression(TaskFormat):
    """Squared error on the first token's row; ranked by Pearson's correlation."""

    code, title, headline = "REG", "regression", "pearson"
    columns = ("text", "text_pair", "score")

    def features(self, task, rows, encode):
        """Read the first token; the target is the score."""
        rows, given = tee(rows)
        texts = ((row.value("text", str), row.value("text_pair", str, None)) for row in given)
        for row, encoded in zip(rows, encode.texts(texts), strict=True):
            score = row.value("score", float)
            yield Feature((encoded,), reads=[0], target=[score], reference=score)

    def head(self, task, hidden_size):
        """Dense, tanh, projection to one number."""
        return SequenceHead(hidden_size, 1)

    def loss(self, scores, targets, splits):
        """One loss per feature."""
        return mse_loss(scores[:, 0], targets, reduction="none")

    def decode(self, task, scores, splits):
        """One number per feature."""
        return scores[:, 0].tolist()

    def metrics(self, task, predictions, references):
        """Pearson's and Spearman's correlation in percent; 0 where one side is constant."""
        if min(len(set(predictions)), len(set(references))) < 2:
            return {"pearson": 0.0, "spearman": 0.0}
        return {
            "pearson": 100 * float(pearsonr(predictions, references).statistic),
            "spearman": 100 * float(spearmanr(predictions, references).statistic),
        }


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [Regression()]

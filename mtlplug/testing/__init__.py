"""The contract suite: inherit `FormatContract`, give a format, a task and a few rows.

    from mtlplug.testing import FormatContract
    from my_format import MyFormat

    class TestMyFormat(FormatContract):
        format = MyFormat()
        task = {"labels": ["no", "yes"], "options": {"stride": 8}}    # as in a suite; may be empty
        rows = [{"text": "a film to remember", "label": "yes"}, ...]

What else it can be given is in `mtlplug.testing.base.Contract`. pytest collects the tests that the
class inherits; `mtlplug plugins check` runs the same ones.
"""

from mtlplug.testing.failures import ContractError
from mtlplug.testing.feature_tests import FeatureTests
from mtlplug.testing.score_tests import ScoreTests
from mtlplug.testing.shown_tests import ShownTests

__all__ = ["ContractError", "FormatContract"]


class FormatContract(FeatureTests, ShownTests, ScoreTests):
    """What a test class inherits; `mtlplug.testing.base.Contract` says what it can be given."""

"""The contract suite: inherit `FormatContract`, give a format, a task and a few rows.

    from mtlplug.testing import FormatContract
    from my_format import MyFormat

    class TestMyFormat(FormatContract):
        format = MyFormat()
        task = {"labels": ["no", "yes"], "options": {"stride": 8}}    # as in a suite; may be empty
        rows = [{"text": "a film to remember", "label": "yes"}, ...]

pytest collects the tests that the class inherits; `mtlplug plugins check` runs the same ones.
"""

from mtlplug.testing.contract import FormatContract
from mtlplug.testing.failures import ContractError

__all__ = ["ContractError", "FormatContract"]

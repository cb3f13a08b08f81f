"""What a failed check of the contract says: what was found, and what the author should change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtlplug.errors import MtlplugError


class ContractError(AssertionError):
    """A format does not keep the contract.

    Attributes:
        found: what was found.
        remedy: what its author should change.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found = found
        self.remedy = remedy


def require(condition: object, found: str, remedy: str) -> None:
    """Fail unless the condition holds."""
    __tracebackhide__ = True
    if not condition:
        raise ContractError(found, remedy)


@contextmanager
def no_fault(what: str, remedy: str) -> Iterator[None]:
    """Turn any error but a failed check into one: the format's code broke on `what`."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise ContractError(f"{what}: {sentence(error)}", remedy) from error


def sentence(error: BaseException) -> str:
    """An error in one line; of what is no sentence for users, its type too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MtlplugError) else f"{type(error).__name__}: {text}"

"""How often each task comes: `--mix NAME` or `--mix NAME:PARAMETER`.

A mix is called with the number of training features of each task, by name, and the number of an
epoch, and says how many features of each the epoch draws. Which ones, and in what order, is the
pool's business (`mtlplug.batching.mixing`).

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mtlplug.batching.mixing import Pool
from mtlplug.errors import MtlplugError, unknown
from mtlplug.plugin_registry import Registry

Mix = Callable[[Mapping[str, int], int], Sequence[int]]
"""From features by task and the number of an epoch, counted from 0, to features drawn of each.

The sum must be the same in every epoch: the learning rate's schedule counts steps.
"""

Factory = Callable[[str], Mix]
"""Makes a mix of what stands behind the colon; an empty text where there is none."""


def proportional(parameter: str) -> Mix:
    """Every feature once in an epoch (Padmakumar et al., 2022, section 3.2)."""
    if parameter:
        raise MtlplugError(f"it takes no parameter, and got '{parameter}'")
    return lambda sizes, epoch: list(sizes.values())


def uniform(parameter: str) -> Mix:
    """All tasks equally often; an epoch draws as many features as there are."""
    if parameter:
        raise MtlplugError(f"it takes no parameter, and got '{parameter}'")
    return lambda sizes, epoch: _shared(sizes, np.ones(len(sizes)))


def temperature(parameter: str) -> Mix:
    """Task t with a share in proportion to n_t^(1/T); an epoch draws as many as there are.

    Raffel et al. (2020), section 3.5.2: T = 1 is `proportional`, and large T goes to `uniform`.
    """
    most = _number(parameter, "temperature:2")
    return lambda sizes, epoch: _shared(sizes, _counts(sizes) ** (1 / most))


def capped(parameter: str) -> Mix:
    """Task t with min(n_t, K) features of an epoch, which is that much shorter.

    Raffel et al. (2020), section 3.5.2, "examples-proportional mixing" with the artificial limit
    K. What a large task does not show in one epoch it shows in the next ones.
    """
    limit = _number(parameter, "capped:10000")
    return lambda sizes, epoch: [min(size, int(limit)) for size in sizes.values()]


def weights(parameter: str) -> Mix:
    """Tasks with shares in proportion to given numbers, 1 where none is given.

    An epoch draws as many features as there are.
    """
    given: dict[str, float] = {}
    for part in parameter.split(","):
        task, _, number = part.strip().partition("=")
        given[task] = _number(number, "weights:people=2,mood=0.5", least=0.0)

    def mix(sizes: Mapping[str, int], epoch: int) -> Sequence[int]:
        for task in given:
            if task not in sizes:
                raise unknown("task in --mix weights", task, sizes)
        return _shared(sizes, np.array([given.get(task, 1.0) for task in sizes]))

    return mix


OURS: Mapping[str, Factory] = {
    "proportional": proportional,
    "uniform": uniform,
    "temperature": temperature,
    "capped": capped,
    "weights": weights,
}


def make_mix(text: str, registry: Registry) -> Mix:
    """The mix that `--mix` names, ours or a plugin's.

    Raises:
        MtlplugError: there is none of this name, or its parameter is wrong.
    """
    mix: Mix = registry.make("mix", text, OURS)
    return mix


def mixed_pool(sizes: Mapping[str, int], mix: Mix, batch_size: int, seed: int) -> Pool:
    """The pool of these tasks, drawn from as a mix says."""
    return Pool(list(sizes.values()), batch_size, seed, partial(mix, sizes))


def _counts(sizes: Mapping[str, int]) -> npt.NDArray[np.float64]:
    return np.array(list(sizes.values()), dtype=np.float64)


def _shared(sizes: Mapping[str, int], shares_T: npt.NDArray[np.float64]) -> list[int]:
    """As many features as there are, in these shares: whole numbers, the largest rests up.

    Raises:
        MtlplugError: nothing is left for a task.
    """
    shares_T = np.where(_counts(sizes) > 0, shares_T, 0.0)
    exact_T = shares_T / shares_T.sum() * sum(sizes.values())
    counts_T = np.floor(exact_T).astype(np.int64)
    missing = sum(sizes.values()) - int(counts_T.sum())
    counts_T[np.argsort(counts_T - exact_T, kind="stable")[:missing]] += 1
    for task, count, share in zip(sizes, counts_T, shares_T, strict=True):
        if share and not count:
            raise MtlplugError(
                f"the mix leaves nothing of an epoch to task '{task}'; give it a larger share, "
                "or leave it out of --groups"
            )
    return [int(count) for count in counts_T]


def _number(text: str, example: str, least: float = 1.0) -> float:
    """A number of `least` or more; above 0 in any case."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf") or number < least:
        wanted = f"a number of {least:g} or more" if least else "numbers above 0"
        raise MtlplugError(f"it takes {wanted}, as in {example}, and got '{text}'")
    return number

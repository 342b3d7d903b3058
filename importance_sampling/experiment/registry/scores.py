"""Scores: what the network says of an example, and the wrappers that are named after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .rows import Hyperparameter, Row, Table

if TYPE_CHECKING:
    from ...model_wrappers import Score


@dataclass(frozen=True)
class ScoreRow(Row):
    """A row of `SCORES`; see `Row`.

    Attributes:
        label: str, the axis of a picture.
        wrapper: str, the name of the wrapper that draws by it; empty for none.
        takes_snapshots: bool, whether its steps are corrected by a snapshot, which the sampler
            has to ask for.
        plain_sgd: bool, whether it has an update rule of its own, for SGD without momentum.
    """

    label: str = "score"
    wrapper: str = ""
    takes_snapshots: bool = False
    plain_sgd: bool = False


def _oracle(score: Score) -> Callable[..., Any]:
    def build(model: Any, policy: Any) -> Any:
        from ...model_wrappers import OracleWrapper

        return OracleWrapper(model, policy, score=score)

    return build


SCORES = Table(
    "score",
    ScoreRow("loss", "the loss", _oracle("loss"), label="loss", wrapper="oracle-loss"),
    ScoreRow(
        "gnorm",
        "an upper bound of the gradient's norm, from one forward pass",
        _oracle("gnorm"),
        label="gradient norm (upper bound)",
        wrapper="oracle-gnorm",
    ),
    ScoreRow(
        "full_gnorm",
        "the gradient's exact norm over all weights, one backward pass per example",
        _oracle("full_gnorm"),
        label="gradient norm",
    ),
    ScoreRow(
        "acc",
        "1 for what is classified wrongly, 0 for the rest",
        _oracle("acc"),
        label="wrong (1) or right (0)",
        wrapper="oracle-acc",
    ),
)
"""Every score of `OracleWrapper`; `build(model, policy)`."""


def _svrg(model: Any, policy: Any) -> Any:
    from ...model_wrappers import SVRGWrapper

    return SVRGWrapper(model, reweighting=policy)


def _katyusha(model: Any, policy: Any, kat_t1: float, kat_t2: float) -> Any:
    from ...model_wrappers import KatyushaWrapper

    return KatyushaWrapper(model, kat_t1, kat_t2, reweighting=policy)


T1 = Hyperparameter("kat_t1", "f", "weight of the momentum", 0.5, above=0, most=1)
T2 = Hyperparameter("kat_t2", "f", "weight of the snapshot", 0.5, least=0, most=1)


WRAPPERS = Table(
    "wrapper",
    *[
        ScoreRow(score.wrapper, score.summary, score.build, label=score.label)
        for score in SCORES.values()
        if score.wrapper
    ],
    ScoreRow(
        "svrg",
        "the gradient corrected by that at a snapshot of the weights; with the sampler scsg",
        _svrg,
        label="loss",
        takes_snapshots=True,
    ),
    ScoreRow(
        "katyusha",
        "the same with Katyusha's momentum, for SGD without one",
        _katyusha,
        (T1, T2),
        label="loss",
        takes_snapshots=True,
        plain_sgd=True,
    ),
)
"""The second argument of `run`; `build(model, policy)`."""

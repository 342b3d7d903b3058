"""Online batch selection by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._stored import StoredScoreSampler

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


class OnlineBatchSelectionSampler(StoredScoreSampler):
    r"""Draws by the rank of each example's latest loss.

    With $i$ the rank (0: the largest loss) and $s_e$ going from `s_e[0]` to `s_e[1]`
    geometrically over `n_epochs` epochs,

    $$p_i \propto \left(1 / \exp(\ln(s_e) / N)\right)^i$$

    so that the first rank is drawn $s_e$ times as often as the last ([Online Batch Selection
    for Faster Training of Neural Networks](https://arxiv.org/abs/1511.06343), eqs. 2 and 3).
    Ranks are made anew once per epoch.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        large_batch: int, kept for the original's sake; nothing is presampled here.
        forward_batch_size: int, examples per scoring pass. Defaults to `128`.
        steps_per_epoch: int, updates between two rankings. Defaults to `300`.
        recompute: int, epochs after which all examples are scored anew; 0 for never. Defaults
            to `2`.
        s_e: pair of floats >= 1, ratio of the largest to the smallest probability at the
            beginning and at the end. Defaults to `(1, 1)`, uniform.
        n_epochs: int, epochs from the one to the other. Defaults to `1`.
    """

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
        large_batch: int = 1024,
        forward_batch_size: int = 128,
        steps_per_epoch: int = 300,
        recompute: int = 2,
        s_e: tuple[float, float] = (1, 1),
        n_epochs: int = 1,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        if len(s_e) != 2 or not min(s_e) >= 1 or n_epochs < 1 or steps_per_epoch < 1:
            raise ValueError(
                "Expected two values of s_e of at least 1, n_epochs >= 1 and steps_per_epoch >= 1, "
                f"got s_e={s_e!r}, n_epochs={n_epochs!r}, steps_per_epoch={steps_per_epoch!r}."
            )
        self.model = model
        self.large_batch = large_batch
        self.forward_batch_size = forward_batch_size
        self.steps_per_epoch = steps_per_epoch
        self.recompute = recompute
        self.s_e = s_e
        self.n_epochs = n_epochs
        self._batch = 0
        self._losses = np.ones(self._tree.n, np.float32)

    @property
    def pressure(self) -> float:
        """The present ratio of the largest to the smallest probability."""
        start, end = self.s_e
        epoch = min(self._batch // self.steps_per_epoch, self.n_epochs)
        return float(start * (end / start) ** (epoch / self.n_epochs))

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Keeps the losses; ranks them anew at the end of an epoch."""
        self._losses[idxs] = np.asarray(results).reshape(-1)
        self._batch += 1
        if self._batch % self.steps_per_epoch:
            return
        epoch = self._batch // self.steps_per_epoch
        if self.recompute > 0 and epoch % self.recompute == 0:
            self._losses[:] = self._rescore(self.model, self.forward_batch_size)
        n = self._tree.n
        ranks = np.empty(n, np.int64)
        ranks[np.argsort(-self._losses, kind="stable")] = np.arange(n)
        self._tree.fill(np.exp(-np.log(self.pressure) * ranks / n))

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        return {**super().state_dict(), "batch": self._batch, "losses": self._losses.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._batch = state["batch"]
        self._losses[:] = state["losses"]

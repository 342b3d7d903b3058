"""PyTorch's `DataLoader` as training data."""

import pytest
from like_keras import BATCH, SHAPES, check_weights_after_two_epochs

pytestmark = pytest.mark.any_backend


def loader(*arrays):
    import torch

    rows = torch.utils.data.TensorDataset(*[torch.as_tensor(a) for a in arrays])
    return torch.utils.data.DataLoader(rows, batch_size=BATCH)


@pytest.mark.exact
@pytest.mark.parametrize("rank", SHAPES)
def test_weights_after_two_epochs_are_those_of_model_fit(rank):
    check_weights_after_two_epochs(loader, rank)

"""Whether an element of a stream is a batch or a single example."""

import pytest

from importance_sampling.data._elements import holds_single_examples, shapes_only

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


class Spec:
    """Stands for what says no more than its shape."""

    def __init__(self, *shape):
        self.shape = shape


ELEMENTS = {
    # name: element, inputs, whether it is one example
    "scalars in batches": ((Spec(None), Spec(None)), {"x": (None, 1)}, False),
    "scalars in batches of a known size": ((Spec(16), Spec(16)), {"x": (None, 1)}, False),
    "one row, scalar target": ((Spec(6), Spec()), {"x": (None, 6)}, True),
    "one row, one-hot target": ((Spec(6), Spec(4)), {"x": (None, 6)}, True),
    "one row, as many targets as features": ((Spec(6), Spec(6)), {"x": (None, 6)}, True),
    "rows": ((Spec(None, 6), Spec(None, 4)), {"x": (None, 6)}, False),
    "images without the last axis": ((Spec(None, 8, 8), Spec(None)), {"x": (None, 8, 8, 1)}, False),
    "one image without the last axis": ((Spec(8, 8), Spec()), {"x": (None, 8, 8, 1)}, True),
    "one image": ((Spec(8, 8, 1), Spec()), {"x": (None, 8, 8, 1)}, True),
    "images": ((Spec(None, 8, 8, 1), Spec(None)), {"x": (None, 8, 8, 1)}, False),
    "one sequence, one label each": ((Spec(None), Spec(None)), {"x": (None, None)}, True),
    "sequences": ((Spec(None, None), Spec(None, None)), {"x": (None, None)}, False),
    "one pair of scalars": (({"a": Spec(), "b": Spec()}, Spec()), {"a": (None, 1)}, True),
    "a dict of scalars in batches": (
        ({"b": Spec(None), "a": Spec(None)}, Spec(None)),
        {"a": (None, 1), "b": (None, 1)},
        False,
    ),
    "a dict of one row each": (
        ({"b": Spec(3), "a": Spec(2)}, Spec(1)),
        {"a": (None, 2), "b": (None, 3)},
        True,
    ),
    "too many features in batches": ((Spec(None), Spec(None)), {"x": (None, 6)}, False),
    "rows, inputs not known": ((Spec(16, 6), Spec(16)), None, False),
    "one row, inputs not known": ((Spec(6), Spec(4)), None, True),
    "bare rows": (Spec(None, 6), {"x": (None, 6)}, False),
    "one bare row": (Spec(6), {"x": (None, 6)}, True),
    "scalars": ((1.0, 2), {"x": (None, 1)}, True),
}


@exact
@pytest.mark.parametrize("name", ELEMENTS)
def test_batches_and_single_examples_are_told_apart(name):
    element, inputs, single = ELEMENTS[name]
    assert holds_single_examples(shapes_only(element), inputs) is single

"""Stands before TensorFlow on the path of processes whose backend is another."""

raise ImportError("tests of other backends do without TensorFlow")

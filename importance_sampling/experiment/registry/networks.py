"""Names of networks, which the help lists without loading Keras to build them."""

from __future__ import annotations

from .rows import Row, Table

_WIDE = "wide residual network"

NETWORKS = Table(
    "model",
    Row("small_nn", "two hidden layers, for points in the plane"),
    Row("svrg_nn", "one hidden layer of 100, for small images"),
    Row("small_cnn", "four convolutions and two hidden layers"),
    Row("small_cnn_sq", "the same, with the squared error as loss"),
    Row("cnn", "six convolutions, batch renormalization and dropout"),
    Row("all_conv", "convolutions only"),
    Row("elu_cnn", "18 convolutions with ELU"),
    Row("lstm_lm", "language model, an LSTM of 256"),
    Row("lstm_lm2", "the same, an LSTM of 384 with dropout"),
    Row("lstm_lm3", "the same, an LSTM of 650 with dropout"),
    Row("lstm_timit", "an LSTM for frames of speech"),
    Row("lstm_mnist", "an LSTM for sequences of pixels"),
    Row("wide_resnet_16_4", f"{_WIDE}, 16 layers, 4 times as wide"),
    Row("wide_resnet_16_4_dropout", "the same with dropout"),
    Row("wide_resnet_28_2", f"{_WIDE}, 28 layers, twice as wide"),
    Row("wide_resnet_28_10", f"{_WIDE}, 28 layers, 10 times as wide"),
    Row("wide_resnet_28_10_dropout", "the same with dropout"),
    Row("pretrained_resnet50", "ResNet50 with the weights of ImageNet, fine-tuned"),
    Row("pretrained_densenet121", "DenseNet121, likewise"),
    Row("triplet_pre_resnet50", "ResNet50, embeddings trained by triplets"),
    Row("triplet_pre_densenet121", "DenseNet121, likewise"),
    Row("face_pre_resnet50", "ResNet50 for faces, an embedding of 128"),
)
"""The first argument of `run`; what builds them is `importance_sampling.models`."""

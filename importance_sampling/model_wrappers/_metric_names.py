"""The names of a model's logs, also before data has been seen."""

from __future__ import annotations

import re
import warnings
from typing import Any

import keras

_CONTAINER = "compile_metrics"
"""What Keras calls the metric that holds the compiled ones."""


def log_names(model: keras.Model) -> list[str]:
    """The names of the model's metrics in the order of its logs, without "loss".

    Keras makes the compiled metrics when it sees the first batch. Until then the names are
    predicted by Keras' rules.
    """
    names: list[str] = []
    for metric in model.metrics:
        if metric.name != _CONTAINER:
            names += [metric.name] if metric.name != "loss" else []
        elif metric.metrics:
            names += list(metric.result())
        else:
            names += _expected(model)
    if not any(metric.name == _CONTAINER for metric in model.metrics):
        names = _losses_by_output(model) + names
    return list(dict.fromkeys(names))


def _expected(model: keras.Model) -> list[str]:
    """The names of compiled metrics that are not made yet, and of the losses of outputs."""
    with warnings.catch_warnings():
        # Functions without a name of their own cannot be saved, which nobody is about to.
        warnings.simplefilter("ignore")
        config = model.get_compile_config() or {}
    outputs = _output_names(model)
    names: list[str] = []
    for key, again in (("metrics", ""), ("weighted_metrics", "weighted_")):
        for output, metric in _by_output(config.get(key), outputs):
            prefix = f"{output}_" if output else ""
            name = prefix + _name(metric)
            if again and name in names:
                name = prefix + again + _name(metric)
            count = sum(re.fullmatch(re.escape(name) + r"(_\d+)?", n) is not None for n in names)
            names.append(f"{name}_{count}" if count else name)
    return names + _losses_by_output(model)


def _output_names(model: keras.Model) -> list[str]:
    return list(getattr(model, "output_names", None) or [])


def _losses_by_output(model: keras.Model) -> list[str]:
    """Keras logs the loss of each output where several have one."""
    if any(metric.name.endswith("_loss") for metric in model.metrics):
        return []
    outputs, loss = _output_names(model), model.loss
    if len(outputs) < 2 or loss is None:
        return []
    if isinstance(loss, dict):
        names = [name for name in loss if loss[name] is not None]
    elif isinstance(loss, list | tuple):
        names = [name for name, own in zip(outputs, loss, strict=False) if own is not None]
    else:
        names = outputs
    return [f"{name}_loss" for name in names] if len(names) > 1 else []


def _is_one(metric: Any) -> bool:
    """Whether this is a metric as it is written into a configuration."""
    return not isinstance(metric, list | tuple | dict) or (
        isinstance(metric, dict) and {"class_name", "config"} <= set(metric)
    )


def _by_output(metrics: Any, outputs: list[str]) -> list[tuple[str, Any]]:
    """Each metric with the name of its output, "" where the model has only one."""
    if not metrics:
        return []
    if len(outputs) < 2:
        return [("", metric) for metric in _leaves(metrics)]
    if isinstance(metrics, dict) and not _is_one(metrics):
        pairs = [(name, metrics[name]) for name in outputs if name in metrics]
    else:
        pairs = list(zip(outputs, metrics, strict=False))
    return [(name, metric) for name, own in pairs for metric in _leaves(own)]


def _leaves(metrics: Any) -> list[Any]:
    if metrics is None:
        return []
    if _is_one(metrics):
        return [metrics]
    values = metrics.values() if isinstance(metrics, dict) else metrics
    return [leaf for value in values for leaf in _leaves(value)]


def _name(metric: Any) -> str:
    """What Keras will call a metric: as the user did, or the function's or the object's name."""
    if isinstance(metric, str):
        return metric
    if isinstance(metric, dict):
        config = metric["config"]
        named = config.get("name") if isinstance(config, dict) else config
        metric = named if named and metric["class_name"] != "__lambda__" else "lambda"
        if isinstance(config, dict):
            return metric
    name = re.sub(r"\W+", "", getattr(metric, "__name__", str(metric)))
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def by_name(model: keras.Model) -> dict[str, Any]:
    """The metrics that Keras has made, by the names of their logs."""
    found: dict[str, Any] = {}
    for metric in model.metrics:
        if metric.name == _CONTAINER and metric.metrics:
            found |= dict(zip(metric.result(), metric.metrics, strict=True))
        else:
            found[metric.name] = metric
    return found

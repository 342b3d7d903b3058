"""The public interface: every name imports, with its arguments in order and their defaults."""
# ruff: noqa: E501 - a row is a whole signature

import importlib
import inspect

import pytest

pytestmark = pytest.mark.exact

# Positional arguments as a script written for the original library passes them. What the project
# adds is keyword-only or follows these.
TRAINING = """
ImportanceTraining(model, presample=3.0, tau_th=None, forward_batch_size=None, score='gnorm', layer=None)
BiasedImportanceTraining(model, k=0.5, smooth=0.0, adaptive_smoothing=False, presample=256, forward_batch_size=128)
ApproximateImportanceTraining(model, k=0.5, smooth=0.0, adaptive_smoothing=False, presample=2048)
ConstantVarianceImportanceTraining(model, backward_time=2.0, extra_samples=0.2, score='gnorm', layer=None)
ConstantTimeImportanceTraining(model, backward_time=2.0, score='gnorm', layer=None)
SVRG(model, B=10.0, B_rate=1.0, B_over_b=128)
"""
SAMPLERS = """
BaseSampler(dataset, reweighting)
UniformSampler(dataset, reweighting)
ModelSampler(dataset, reweighting, model, large_batch=1024, forward_batch_size=128)
CacheSampler(dataset, reweighting, staleness=3, cache_prob=0.5, smooth=0.2)
LSTMSampler(dataset, reweighting, presample=2048, history=10, log=False)
PerClassGaussian(dataset, reweighting, alpha=0.9, presample=2048)
LSTMComparisonSampler(dataset, lstm, model, subset=1024)
HistorySampler(dataset, reweighting, model, forward_batch_size=128, recompute=2)
OnlineBatchSelectionSampler(dataset, reweighting, model, large_batch=1024, forward_batch_size=128, steps_per_epoch=300, recompute=2, s_e=(1, 1), n_epochs=1)
SCSGSampler(dataset, reweighting, model, B=1024, B_over_b=32, B_rate=1.0)
ConstantVarianceSampler(dataset, reweighting, model, backward_time=2.0, extra_samples=0.2)
ConstantTimeSampler(dataset, reweighting, model, backward_time=2.0, tau_th=2.0, ratio=0.5, min_a=0.2)
SamplerDecorator(sampler)
AdditiveSmoothingSampler(sampler, c=1.0)
AdaptiveAdditiveSmoothingSampler(sampler, percentage=0.5, forget=0.9)
PowerSmoothingSampler(sampler, power=0.5)
ConditionalStartSampler(sampler, condition)
Condition()
WarmupCondition(warmup=100)
ExpCondition(lambda_th=2.0, momentum=0.9)
TotalVariationCondition(tv_th=0.5, momentum=0.9)
VarianceReductionCondition(vr_th=1.2, momentum=0.9)
"""
REWEIGHTING = """
ReweightingPolicy()
BiasedReweightingPolicy(k=1.0)
NoReweightingPolicy()
AdjustedBiasedReweightingPolicy(k=1.0)
CorrectingReweightingPolicy(k=1.0)
ExternalReweighting()
AdjustedBiasedReweighting(k)
CorrectingReweighting(min_decrease=0, max_increase=2)
"""
MODEL_WRAPPERS = """
ModelWrapper()
ModelWrapperDecorator(model_wrapper)
OracleWrapper(model, reweighting, score='loss', layer=None)
SVRGWrapper(model)
KatyushaWrapper(model, t1=0.5, t2=0.5)
"""
LAYERS = """
LossLayer(loss)
GradientNormLayer(parameter_list, loss, fast=False)
MetricLayer(metric_func)
TripletLossLayer()
BatchRenormalization()
LayerNormalization(axes=None, bias_axes=[-1], epsilon=1e-3)
StatsBatchNorm(momentum=0.99, epsilon=1e-3, update_stats=False)
GroupNormalization(G=32, epsilon=1e-3)
"""
DATASETS = """
BaseDataset()
InMemoryDataset(X_train, y_train, X_test, y_test, categorical=True)
InMemoryImageDataset(X_train, y_train, X_test, y_test, categorical=True)
MNIST()
CIFAR10()
CIFAR100()
CIFARSanityCheck(classes=(3, 5), replicate=30000, replicate_idx=42)
PixelByPixelMNIST(permutation_seed=0)
CanevetICML2016(N=8192, test_split=0.33, smooth=40)
GeneratorDataset(train_data, test_data=None, test_data_length=None, cache_size=5)
ZCAWhitening(dataset)
AugmentedImages(dataset, augmentation_params, N=None)
OntheflyAugmentedImages(dataset, augmentation_params, N=None, random_state=0, cache_size=None)
PennTreeBank(context, ptb_path=None, val=True, verbose=True, cache=True)
ImageNetDownsampled(basepath, size=32, mmap=False)
TIMIT(context, path, val=False)
MIT67(basepath)
CASIAWebFace(basepath, alpha=0.2, embedding=128, validation=5, cache=4096)
CASIAWebFace2(basepath)
LFW(basepath, fold=1, idxs=False)
"""
OTHERS = {
    "models": "get(name)\nwide_resnet(L, k, drop_rate=0.0)",
    "pretrained": """
ResNet50(weights='imagenet', input_shape=(224, 224, 3), output_size=1000, softmax=False, norm_layer=StatsBatchNorm)
DenseNet121(weights='imagenet', input_shape=(224, 224, 3), output_size=1000, softmax=False, norm_layer=StatsBatchNorm)
""",
    "utils.functional": "partial(func)\ncompose()",
    "utils.keras_utils": """
load_weights_by_name(f, layers)
DatasetSequence(dataset, train=True, part=slice(None), batch_size=32)
""",
    "transparent": "TransparentModel(inputs, outputs, observed_tensors=None)",
}

MODULES = {
    "training": TRAINING,
    "samplers": SAMPLERS,
    "reweighting": REWEIGHTING,
    "model_wrappers": MODEL_WRAPPERS,
    "layers": LAYERS,
    "datasets": DATASETS,
    **OTHERS,
}
ROWS = [(m, row) for m, rows in MODULES.items() for row in rows.strip().splitlines()]
METHODS = {
    "fit": "x, y, batch_size=32, epochs=1, verbose=1, callbacks=None, validation_split=0.0, "
    "validation_data=None, steps_per_epoch=None, on_sample=None, on_scores=None",
    "fit_generator": "train, steps_per_epoch=None, batch_size=32, epochs=1, verbose=1, "
    "callbacks=None, validation_data=None, validation_steps=None, on_sample=None, on_scores=None",
    "fit_dataset": "dataset, steps_per_epoch=None, batch_size=32, epochs=1, verbose=1, "
    "callbacks=None, on_sample=None, on_scores=None",
}


def arguments(text, names):
    """Names and defaults of an argument list as it is written in the contract."""
    scope: dict = dict(names)
    exec(f"def written({text}): ...", scope)
    return list(inspect.signature(scope["written"]).parameters.values())


def normal(default):
    return tuple(default) if isinstance(default, list) else default


def check(function, text, names):
    own = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    ]
    written = arguments(text, names)
    assert [p.name for p in own[: len(written)]] == [p.name for p in written]
    for ours, theirs in zip(own, written, strict=False):
        if theirs.default is not inspect.Parameter.empty:
            assert normal(ours.default) == normal(theirs.default), ours.name
    for further in own[len(written) :]:
        assert further.default is not inspect.Parameter.empty, further.name


@pytest.mark.parametrize(("module", "row"), ROWS, ids=[row.split("(")[0] for _, row in ROWS])
def test_every_name_has_its_arguments(module, row):
    imported = importlib.import_module(f"importance_sampling.{module}")
    name, _, text = row.partition("(")
    thing = getattr(imported, name)
    assert name in getattr(imported, "__all__", [name])
    assert inspect.getdoc(thing)
    check(thing, text.removesuffix(")"), vars(imported))


@pytest.mark.parametrize("row", TRAINING.split("\n")[1:-1], ids=lambda row: row.split("(")[0])
def test_trainings_are_exported_and_have_their_methods(row):
    import importance_sampling

    training = getattr(importance_sampling, row.split("(")[0])
    for name, text in METHODS.items():
        check(getattr(training, name), text, {})


def test_constants_and_members():
    from importance_sampling import datasets, reweighting, samplers
    from importance_sampling.model_wrappers import ModelWrapper
    from importance_sampling.utils import functional

    assert isinstance(reweighting.UNWEIGHTED, reweighting.NoReweightingPolicy)
    assert isinstance(reweighting.UNBIASED, reweighting.BiasedReweightingPolicy)
    assert reweighting.UNBIASED.k == 1.0
    assert functional.___ is functional.placeholder
    for method in ("score", "evaluate", "set_lr", "score_batch", "evaluate_batch", "train_batch"):
        assert callable(getattr(ModelWrapper, method))
    for method in ("weight_layer", "sample_weights", "weight_size"):
        assert hasattr(reweighting.ReweightingPolicy, method)
    for member in ("satisfied", "previously_satisfied", "update", "variance_reduction"):
        assert hasattr(samplers.VarianceReductionCondition(), member)
    assert callable(datasets.InMemoryImageDataset.from_loadable)

"""The layers that can't be streamed, each with its reason and what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

from worker.model.backend import keras
from worker.model.graph import LayerCall
from worker.model.rules import StepBuilder, refuse, run_as_it_is, streams, without_time

L = keras.layers


def _refused(kinds: list[type], why: str, instead: str) -> None:
    def rule(call: LayerCall, builder: StepBuilder) -> NoReturn:
        refuse(call, f"{call.kind}: {why}", instead)

    streams(*kinds)(rule)


def _refused_over_time(kinds: list[type], why: str, instead: str) -> None:
    """Refused over time, harmless without a time axis."""

    def rule(call: LayerCall, builder: StepBuilder) -> Any:
        time = without_time(call, builder)
        if time is None:
            refuse(call, f"{call.kind}: {why}", instead)
        return run_as_it_is(call, builder, time)

    streams(*kinds)(rule)


_refused_over_time(
    [L.UpSampling1D],
    "it makes several steps out of one",
    "remove it, and train on sequences as they arrive",
)
_refused_over_time(
    [L.GroupNormalization],
    "its mean goes over all steps of the window",
    "use LayerNormalization(axis=-1), the features, and train again",
)
_refused_over_time(
    [L.Dot],
    "it multiplies each step by all the others",
    "use Multiply and Dense, or keras.ops.sum(x, axis=-1, keepdims=True), behind it, and train again",
)
_refused_over_time(
    [
        *(L.ZeroPadding2D, L.ZeroPadding3D, L.Cropping2D, L.Cropping3D, L.UpSampling2D, L.UpSampling3D),
        *(L.Resizing, L.CenterCrop, L.AugMix, L.AutoContrast, L.Equalization, L.MixUp, L.CutMix, L.RandAugment),
        *(L.RandomBrightness, L.RandomColorDegeneration, L.RandomColorJitter, L.RandomContrast, L.RandomCrop),
        *(L.RandomElasticTransform, L.RandomErasing, L.RandomFlip, L.RandomGaussianBlur, L.RandomGrayscale),
        *(L.RandomHue, L.RandomInvert, L.RandomPerspective, L.RandomPosterization, L.RandomRotation),
        *(L.RandomSaturation, L.RandomSharpness, L.RandomShear, L.RandomTranslation, L.RandomZoom, L.Solarization),
        *(L.ContrastLimitedAdaptiveHistogramEqualization, L.MaxNumBoundingBoxes),
    ],
    "it takes time for a side of a picture, or the steps for a batch of pictures",
    "wrap it in TimeDistributed, so that it sees each picture alone, or do its work on the data before; train again",
)
_refused_over_time(
    [L.MelSpectrogram, L.STFTSpectrogram],
    "it cuts the signal into windows of its own",
    "wrap it in TimeDistributed, power_to_db=False, with one piece of the signal per step, and train again",
)
_refused(
    [L.StringLookup, L.TextVectorization, L.HashedCrossing],
    "it works on words or pairs of categories, and a stream brings numbers",
    "remove it, and feed the ids that it would give",
)

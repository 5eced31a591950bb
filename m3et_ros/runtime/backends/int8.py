"""int8 for OpenVINO: NNCF quantises the graphs, with ranges of activations measured on views of a simulated kitchen.

NNCF is needed to build such graphs and not to run them. A record beside them names the calibration of the last build,
which is the one that serves.
"""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from m3et_ros.data.errors import InputError
from m3et_ros.data.extras import require
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.backends import Setting
from m3et_ros.runtime.backends.graphs import DENSE, Graph, decoder_inputs, graphs, text_inputs
from m3et_ros.runtime.backends.openvino import core, without_telemetry, write_whole
from m3et_ros.runtime.machine import foreign, lacks_vnni

VIEWS = 32
"""Views, each with a question, on which the ranges of activations are measured."""
EXACT = ['Convolution']
"""Operations that stay in float32: the first ones of an image, whose rounding costs kitchen2 9 % in depth."""
RECORD = 'calibration'
"""File beside the graphs of all calibrations of a model; it has the digest of the one that serves."""


class EncodedView(NamedTuple):
    """One view of a kitchen."""

    # Inputs of ImageGraph.
    images: tuple[Tensor, ...]
    # Encoding of these images.
    encoding: ImageEncoding
    # A question about it.
    question: str


@dataclass(frozen=True)
class CalibrationCache:
    """Views of a cache of kitchens for the ranges of activations."""

    # A cache of the splits train or validation.
    cache: Path
    # Tokenizer of the model.
    tokenizer: Tokenizer

    @property
    def digest(self) -> str:
        """Name of the folder of the graphs: a digest of the cache, the number of views and the version of NNCF."""
        from m3et_ros.data.kitchen.cache.recipe import read_recipe, read_shards

        facts = (read_recipe(self.cache).name, *(path.name for path in read_shards(self.cache)), VIEWS, version('nncf'))
        return hashlib.sha256('\n'.join(map(str, facts)).encode()).hexdigest()[:16]


class Quantiser:
    """NNCF's quantisation after training, of the graphs of one model.

    Args:
        calibration: views for the ranges of activations.
        model: in float32 on the CPU, in eval mode.
        modality_sets: sets of image modalities of the graphs.
        guides: number and length of the texts that heads read of every frame; None = there are none.
    """

    def __init__(
        self,
        calibration: CalibrationCache,
        model: M3ET,
        modality_sets: Sequence[tuple[str, ...]],
        guides: tuple[int, int] | None = None,
    ):
        self._calibration, self._model = calibration, model
        self._graphs = {graph.name: graph for graph in graphs(model, torch.float32, modality_sets, 'cpu', guides)}
        # Views as eager float32 encodes them, for the graphs of one set of modalities, which are built in a row.
        self._encoded: tuple[tuple[str, ...], list[EncodedView]] = (), []

    def __call__(self, converted: Any, name: str) -> Any:
        """Return a graph whose products run in int8.

        Args:
            converted: the graph as an openvino.Model of fixed shapes.
            name: name of the graph.
        """
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        given = [{index: t.numpy() for index, t in enumerate(inputs)} for inputs in self.inputs(self._graphs[name])]
        own, openvino.Core = openvino.Core, core  # NNCF makes a Core for each pass and drops it; see core()
        try:
            with redirect_stdout(StringIO()):  # its bars of progress would stand in the output of --json
                return nncf.quantize(
                    converted,
                    nncf.Dataset(given),
                    subset_size=len(given),
                    model_type=nncf.ModelType.TRANSFORMER,
                    ignored_scope=nncf.IgnoredScope(types=EXACT, validate=False),
                    advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
                )
        finally:
            openvino.Core = own

    def inputs(self, graph: Graph) -> list[tuple[Tensor, ...]]:
        """Return the inputs that the views give to a graph."""
        if self._encoded[0] != graph.modalities:
            self._encoded = graph.modalities, self._encode(graph.modalities)
        model, views = self._model, self._encoded[1]
        if graph.kind == 'encode_images':
            return [view.images for view in views]
        with torch.inference_mode():
            if graph.kind not in DENSE:
                count, length = graph.inputs[-1].shape
                words = [self._words(first, count, length) for first in range(len(views))]
                return [tuple(text_inputs(view.encoding, *w)) for view, w in zip(views, words, strict=True)]
            length = model.config.text_length
            asked = (self._words(first, 1, length) if graph.with_text else () for first in range(len(views)))
            encoded = (model.add_text(view.encoding, *w) for view, w in zip(views, asked, strict=True))
            return [tuple(decoder_inputs(one, graph.kind, model.config)) for one in encoded]

    def _words(self, first: int, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Return ids and mask (count, length) of the questions of a view and of those after it."""
        views = self._encoded[1]
        asked = [views[(first + number) % len(views)].question for number in range(count)]
        return self._calibration.tokenizer.encode(asked, length)

    @torch.inference_mode()
    def _encode(self, modalities: tuple[str, ...]) -> list[EncodedView]:
        from m3et_ros.data.kitchen.cache.dataset import KitchenSamples

        config, found = self._model.config, []
        samples = KitchenSamples(self._calibration.cache, noise=Noise(mirror=0), length=VIEWS)
        for sample in (samples[index] for index in range(VIEWS)):
            inputs = collate([sample], config).inputs
            if any(m not in inputs for m in modalities):
                continue  # noise has taken all depth
            images = {m: inputs[m] for m in modalities}
            found.append(EncodedView(tuple(images.values()), self._model.encode_images(images), sample.question))
        return found


def open_calibration(cache: Path, tokenizer: Tokenizer) -> CalibrationCache:
    """Return the calibration by a cache of kitchens, once it is known that graphs can be built by it.

    Args:
        cache: made by `m3et generate cache`.
        tokenizer: tokenizer of the model.

    Raises:
        InputError: 'needs_extra', NNCF is not installed; 'foreign_cache' or 'empty_cache', it is no cache;
            'test_cache', it holds test kitchens.
    """
    from m3et_ros.data.kitchen.cache.recipe import read_recipe, read_shards

    without_telemetry()
    require('int8')
    if read_recipe(cache).split == 'test':
        raise InputError(
            'test_cache',
            f'{cache} holds test kitchens, on which nothing may be fitted; give a cache of training kitchens, as '
            'm3et generate cache makes it.',
        )
    read_shards(cache)
    return CalibrationCache(cache, tokenizer)


def with_calibration(
    setting: Setting,
    model: M3ET,
    modality_sets: Sequence[tuple[str, ...]],
    calibration: CalibrationCache | None,
    guides: tuple[int, int] | None,
) -> Setting:
    """Return a setting whose folder is that of one calibration.

    Args:
        setting: its folder is prepared.artefact_folder.
        model: in float32 on the CPU, in eval mode.
        modality_sets: sets of image modalities of the graphs.
        calibration: the calibration by which missing graphs are built; None takes the graphs of the last build, and
            builds none.
        guides: as Quantiser takes them.

    Raises:
        FileNotFoundError: there was no build.
    """
    assert setting.folder is not None
    if calibration is None:
        digest = (setting.folder / RECORD).read_text(encoding='ascii')
        return replace(setting, folder=setting.folder / digest, quantise=refuse)
    quantiser = Quantiser(calibration, model, modality_sets, guides)
    return replace(setting, folder=setting.folder / calibration.digest, quantise=quantiser)


def refuse(converted: Any, name: str) -> Any:
    """Quantise no graph where stored ones alone may serve.

    Raises:
        FileNotFoundError: always.
    """
    raise FileNotFoundError(f'the int8 graph {name} is missing or damaged; run m3et build openvino again')


def record(folder: Path, calibration: CalibrationCache) -> None:
    """Let the graphs of a calibration serve from now on.

    Args:
        folder: prepared.artefact_folder.
        calibration: all its graphs are built and checked.
    """
    write_whole(folder / RECORD, calibration.digest.encode())


def check_possible(adaptive: bool) -> None:
    """Check that this CPU and these tokens go with int8.

    Raises:
        InputError: 'parameter', the CPU has no VNNI, or tokens are adaptive.
    """
    if lacks_vnni():
        raise InputError(
            'parameter',
            'precision is int8 and this CPU has no VNNI, without which int8 is slower than float32 and less exact; set '
            'precision to float32.',
        )
    if adaptive:
        raise InputError(
            'parameter',
            'precision is int8 and tokens are adaptive, for which there are no int8 graphs; set tokens to full, or '
            'precision to float32.',
        )


def check_built(folder: Path, runtime: str, threads: int) -> None:
    """Check that a robot can run in int8.

    Args:
        folder: prepared.artefact_folder.
        runtime: one of backends.RUNTIMES.
        threads: CPU threads of the robot.

    Raises:
        InputError: 'parameter', the runtime has no int8; 'graphs_missing', no graphs were built for the robot.
    """
    if runtime != 'openvino':
        raise InputError(
            'parameter', f'precision is int8 and runtime is {runtime}; set runtime to openvino, which alone has int8.'
        )
    if not (folder / RECORD).is_file() or foreign(folder / RECORD):
        raise InputError(
            'graphs_missing',
            f'precision is int8 and there are no int8 graphs of these weights for {threads} threads; build them: m3et '
            f'build openvino --model MODEL --precision int8 --threads {threads} --calibrate CACHE.',
        )

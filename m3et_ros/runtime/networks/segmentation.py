"""Segmentation networks of others: a class and a confidence for each pixel.

Symbols: C classes; Q queries of a network that gives a class and a mask for each of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from m3et_ros.data.checkpoints.safetensor_files import AGAIN
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import check_arrays
from m3et_ros.runtime.model_folder import ModelFolder
from m3et_ros.runtime.networks.folder import LoadedNetwork, find_network, import_transformers

BY_PIXEL = (
    'BeitForSemanticSegmentation',
    'Data2VecVisionForSemanticSegmentation',
    'DPTForSemanticSegmentation',
    'MobileNetV2ForSemanticSegmentation',
    'MobileViTForSemanticSegmentation',
    'MobileViTV2ForSemanticSegmentation',
    'SegformerForSemanticSegmentation',
    'UperNetForSemanticSegmentation',
)
"""Networks that score every class in every pixel."""
ONEFORMER = 'OneFormerForUniversalSegmentation'
BY_QUERY = ('Mask2FormerForUniversalSegmentation', 'MaskFormerForInstanceSegmentation', ONEFORMER)
"""Networks that give a class and a mask for each query."""
MASK_SIDE = 384
"""Side of the masks of Mask2Former before their sigmoid, as transformers takes it for all of them."""
TASK = 'the task is semantic'
"""Words that ask a OneFormer for classes of pixels (Jain et al. 2023, section 3.1)."""
TASK_LENGTH = 77


@dataclass(frozen=True)
class Segmented:
    """Classes of an image."""

    # (H, W) uint16, index into the names of the network.
    labels: np.ndarray
    # (H, W) float32, 0..1: probability of the class, or for networks with queries the share of the pixel it covers.
    confidence: np.ndarray


class SegmentationNetwork(LoadedNetwork):
    """A semantic or universal segmentation network of transformers.

    Attributes:
        names: its classes; the position of a name is its label.
    """

    def __init__(self, folder: ModelFolder, device: str = 'cpu'):
        """Load a network.

        Args:
            folder: the checked folder of one of BY_PIXEL or BY_QUERY.
            device: auto, cpu, cuda or cuda:N.

        Raises:
            InputError: as LoadedNetwork; model_config also for a network without class names.
        """
        self.names = class_names(folder)
        oneformer = folder.architecture == ONEFORMER
        # The processor of a OneFormer would fetch a list of classes from the Hub, which only training needs.
        changes = {'class_info_file': None} if oneformer else {}
        super().__init__(folder, device, **changes)
        self._task = _task_tokens(folder) if oneformer else {}
        self._by_query = folder.architecture in BY_QUERY
        self._side = MASK_SIDE if folder.architecture == BY_QUERY[0] else 0

    def predict(self, rgb: np.ndarray) -> Segmented:
        """Return the classes of an image.

        Args:
            rgb: (H, W, 3) uint8.

        Raises:
            ValueError: rgb is of another shape or type.
            InputError: model_not_finite: the network gives values that are not finite.
        """
        check_arrays(rgb)
        # A crop would leave the border of the image without classes.
        whole = {'do_center_crop': False} if getattr(self._processor, 'do_center_crop', False) else {}
        inputs = self._processor(images=rgb, input_data_format='channels_last', return_tensors='pt', **whole)
        given = {name: inputs[name] for name in ('pixel_values', 'pixel_mask') if name in inputs} | self._task
        with torch.inference_mode():
            outputs = self._model(**{name: tensor.to(self.device) for name, tensor in given.items()})
            if self._by_query:
                scores = _query_scores(outputs, rgb.shape[:2], self._side)
                best, labels = scores.max(1)
                confidence = best.clamp(0, 1)
            else:
                logits = interpolate(outputs.logits.float(), rgb.shape[:2], mode='bilinear', align_corners=False)
                best, labels = logits.max(1)
                confidence = (best - logits.logsumexp(1)).exp()
        sure = confidence[0].cpu().numpy()
        if not np.isfinite(sure).all():
            raise InputError(
                'model_not_finite', f'{self.model_id} gives values that are not finite; take another network.'
            )
        return Segmented(labels[0].cpu().numpy().astype(np.uint16), sure)


def _query_scores(outputs: Any, size: tuple[int, int], side: int) -> torch.Tensor:
    """Return the scores (1, C, H, W) of a network with queries; masks are first resized to `side` squared, if any."""
    masks = outputs.masks_queries_logits.float()
    if side:
        masks = interpolate(masks, (side, side), mode='bilinear', align_corners=False)
    classes = outputs.class_queries_logits.float().softmax(-1)[..., :-1]
    scores = torch.einsum('bqc,bqhw->bchw', classes, masks.sigmoid())
    return interpolate(scores, size, mode='bilinear', align_corners=False)


def _task_tokens(folder: ModelFolder) -> dict[str, torch.Tensor]:
    """Return the input of a OneFormer that asks for classes of pixels, as its processor in transformers makes it."""
    try:
        tokenizer = import_transformers().AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        tokens = tokenizer([TASK], padding='max_length', max_length=TASK_LENGTH, truncation=True, return_tensors='pt')
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise InputError(
            'model_config', f'{folder.name} has no tokenizer that can be read ({reason}); {AGAIN}.'
        ) from error
    return {'task_inputs': tokens['attention_mask'] * tokens['input_ids']}


def class_names(folder: ModelFolder) -> tuple[str, ...]:
    """Return the classes that config.json names, in the order of the labels.

    Raises:
        InputError: model_config: there are none, one is missing, or they are the placeholders of transformers.
    """
    named = folder.config.get('id2label')
    names = tuple(str(named.get(str(i), '')) for i in range(len(named))) if isinstance(named, dict) else ()
    if not names or not all(names):
        why = 'names no classes' if not names else 'does not name each of its classes once'
    elif all(name == f'LABEL_{i}' for i, name in enumerate(names)):
        why = 'calls its classes LABEL_0, LABEL_1 and so on'
    else:
        return names
    raise InputError('model_config', f'{folder.name} {why}; write them into id2label of its config.json.')


def open_segmentation(name: str, device: str = 'cpu') -> SegmentationNetwork:
    """Open a segmentation network.

    Args:
        name: a folder as transformers writes it, or hf:owner/name[@revision].
        device: auto, cpu, cuda or cuda:N.

    Raises:
        InputError: there is no such network, it is damaged, of another kind, or too large.
    """
    return SegmentationNetwork(find_network(name, BY_PIXEL + BY_QUERY, 'segmentation network'), device)

"""Load the processor of a vision-language model: tokenizer, image processor and chat template.

Processors that also take videos ask for torchvision, which is not there for every torch. Only images are given here, so
such a processor is built without its video part where torchvision is missing; image processors fall back to Pillow by
themselves.
"""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.model_folder import ModelFolder

NAMING = ('processor_config.json', 'preprocessor_config.json', 'tokenizer_config.json')
"""Files that may name the class of the processor, in the order in which transformers asks them."""
TEMPLATE_FIX = 'add a chat_template.jinja that writes the image token and the text, or give an instruction-tuned model'


def load_processor(folder: ModelFolder) -> Any:
    """Return the processor of a model, with a chat template.

    Raises:
        InputError: vlm_processor (missing, damaged, or of code of its own), vlm_template (no chat template).
    """
    from transformers import AutoProcessor
    from transformers.utils import is_torchvision_available

    try:
        kind = _processor_class(folder)
        if kind is not None and 'video_processor' in kind.get_attributes() and not is_torchvision_available():
            processor = _without_videos(kind, folder.path)
        else:
            processor = AutoProcessor.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
    except InputError:
        raise
    except Exception as error:  # files of a user: transformers raises anything, ImportError among it
        raise InputError(
            'vlm_processor',
            f'The processor of {folder.path} cannot be loaded ({type(error).__name__}: {_first_line(error)}); the '
            'folder needs the files of its tokenizer and its image processor.',
        ) from error
    if getattr(processor, 'image_processor', None) is None or getattr(processor, 'tokenizer', None) is None:
        raise InputError(
            'vlm_processor',
            f'{folder.path} has no processor of images and text; copy preprocessor_config.json and the files of the '
            'tokenizer beside the weights.',
        )
    if not (getattr(processor, 'chat_template', None) or getattr(processor.tokenizer, 'chat_template', None)):
        raise InputError('vlm_template', f'The processor of {folder.path} has no chat template; {TEMPLATE_FIX}.')
    return processor


def _processor_class(folder: ModelFolder) -> Any:
    """Return the class of the processor in transformers; None where nothing names one."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    names = [_named(folder.path / file) for file in NAMING]
    name = next(filter(None, names), PROCESSOR_MAPPING_NAMES.get(folder.config['model_type']))
    return getattr(transformers, name, None) if isinstance(name, str) else None


def _named(file: Path) -> str | None:
    return json.loads(file.read_text(encoding='utf-8')).get('processor_class') if file.is_file() else None


def _without_videos(kind: Any, path: Path) -> Any:
    """Build a processor of this class whose video part is a stand-in without settings."""
    from transformers import AutoImageProcessor, AutoTokenizer

    class ImagesOnly(kind):
        """A processor that does not check its video part, whose class cannot be imported."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            """Check the parts that are there."""
            if argument_name == 'video_processor':
                return type(argument)
            return super().check_argument_for_proper_class(argument_name, argument)

    local = {'trust_remote_code': False, 'local_files_only': True}
    parts = {
        'image_processor': AutoImageProcessor.from_pretrained(path, **local),
        'tokenizer': AutoTokenizer.from_pretrained(path, **local),
        # SmolVLM hands these settings on, also without a video.
        'video_processor': SimpleNamespace(num_frames=None, fps=None),
    }
    settings, _ = kind.get_processor_dict(path, local_files_only=True)
    taken = set(inspect.signature(kind.__init__).parameters) - set(parts)
    return ImagesOnly(**parts, **{name: value for name, value in settings.items() if name in taken})


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), '')[:300]

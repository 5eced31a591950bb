"""Folders of networks as transformers writes them: found by name, checked, then loaded.

Only safetensors are read, and nothing in a folder is executed. Only hf:owner/name[@revision] uses the network.
"""

from typing import Any

import torch
from safetensors import SafetensorError

from m3et_ros.data.checkpoints.safetensor_files import AGAIN
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.devices import device_of
from m3et_ros.runtime.model_folder import ModelFolder, find_model

PROCESSORS = ('preprocessor_config.json', 'processor_config.json')
"""Files that say how a network wants its images; a folder has one of them."""


def import_transformers() -> Any:
    """Return the package transformers.

    Raises:
        InputError: network_packages: it is not installed.
    """
    try:
        import PIL  # noqa: F401 - the image processors read pictures by it
        import transformers
    except ImportError as error:
        raise InputError(
            'network_packages',
            f"Networks of others need transformers and pillow ({error}): pip install 'm3et_ros[networks]'.",
        ) from error
    return transformers


def find_network(name: str, known: tuple[str, ...], what: str) -> ModelFolder:
    """Find a network and check its files; downloads it only for hf:owner/name[@revision].

    Args:
        name: a folder, or a network of the Hugging Face Hub. HF_HUB_OFFLINE=1 takes what was downloaded before.
        known: the classes of transformers that serve.
        what: what they are, for the sentence.

    Raises:
        InputError: as find_model; model_config also where config.json names no class, or another one.
    """

    def check(name: str, config: dict[str, Any]) -> None:
        named = config.get('architectures')
        found = named[0] if isinstance(named, list) and named else None
        if not isinstance(found, str):
            raise InputError('model_config', f'config.json of {name} names no architecture; {AGAIN}.')
        if found not in known:
            own = ' and has code of its own, which is never run' if 'auto_map' in config else ''
            raise InputError(
                'model_config', f'{name} is a {found[:100]}, which is no {what}{own}; give one of {", ".join(known)}.'
            )

    return find_model(name, check, torch.float32)


def load_network(folder: ModelFolder) -> torch.nn.Module:
    """Load a network in float32, in evaluation mode, on the host.

    Raises:
        InputError: model_config (this version of transformers cannot build it), model_tensor (weights are missing).
    """
    kind = getattr(import_transformers(), folder.architecture)
    try:
        model, found = kind.from_pretrained(
            folder.path, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (
        ImportError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        reason = str(error).strip().partition('\n')[0]
        raise InputError('model_config', f'{folder.name} cannot be built ({reason}); {AGAIN}.') from error
    # transformers would fill them with random numbers.
    if found['missing_keys']:
        first = sorted(found['missing_keys'])[0]
        raise InputError('model_tensor', f'{folder.name} has no tensor {first}, which its config asks for; {AGAIN}.')
    return model.eval()


def load_processor(folder: ModelFolder, **changes: Any) -> Any:
    """Load the image processor of a network; the one that works on PIL images, where there is one.

    Args:
        folder: the network.
        changes: values that differ from those of the folder.

    Raises:
        InputError: model_config: the folder has none, or it cannot be built.
    """
    transformers = import_transformers()
    if not any((folder.path / name).is_file() for name in PROCESSORS):
        raise InputError(
            'model_config', f'{folder.name} does not say how it wants its images: it has no {PROCESSORS[0]}; {AGAIN}.'
        )
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            folder.path, backend='pil', local_files_only=True, trust_remote_code=False, **changes
        )
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise InputError(
            'model_config', f'The image processor of {folder.name} cannot be built ({reason}); {AGAIN}.'
        ) from error


class LoadedNetwork:
    """A network of transformers with its image processor, on a device.

    Attributes:
        model_id: see ModelFolder.model_id.
        device: the device that it is on.
        weight_bytes: size of its weights.
    """

    def __init__(self, folder: ModelFolder, device: str, **changes: Any):
        """Load a network.

        Args:
            folder: the folder, of a known architecture.
            device: auto, cpu, cuda or cuda:N.
            changes: values of the image processor that differ from those of the folder.

        Raises:
            InputError: model_config (it cannot be built), model_memory, network_packages, model_truncated,
                model_tensor, device.
        """
        self.device = device_of(device)
        folder.check_memory(torch.float32, self.device)
        self._processor = load_processor(folder, **changes)
        self._model = load_network(folder).to(self.device)
        self.model_id = folder.model_id
        self.weight_bytes = sum(tensor.nbytes for tensor in self._model.state_dict().values())

    def to(self, device: str) -> None:
        """Move the weights to a device.

        Raises:
            InputError: device: there is no such device.
        """
        self.device = device_of(device)
        self._model.to(self.device)

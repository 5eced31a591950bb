"""Folders of networks as transformers writes them: found by name, checked, estimated, then loaded.

Only safetensors are read, and nothing in a folder is executed. Only hf:owner/name[@revision] uses the network.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError, safe_open

from m3et_ros.data.checkpoints.json_files import CONFIG, read_json
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import HUB, HUB_ID

WEIGHTS, SHARDS = 'model.safetensors', 'model.safetensors.index.json'
PROCESSORS = ('preprocessor_config.json', 'processor_config.json')
"""Files that say how a network wants its images; a folder has one of them."""
FETCHED = ['*.json', '*.safetensors', '*.txt']
AGAIN = 'copy or download the network again'
REVISION = re.compile(r'[\w.][\w./-]{0,199}')
FETCH_S = 10.0
"""Seconds that the Hub may take to answer."""
WORKING = 1.25
"""Memory that a network needs, as a multiple of its weights in float32."""


@dataclass(frozen=True)
class NetworkFolder:
    """A folder of a network, checked but not loaded."""

    path: Path
    # The name that the user gave.
    name: str
    # The content of config.json.
    config: dict[str, Any]
    # The class of transformers that the network is of.
    architecture: str
    # Safetensors files of the weights.
    weights: tuple[Path, ...]

    @property
    def model_id(self) -> str:
        """Id of the network: its name, and the first 8 digits of the SHA-256 of its (first) file of weights."""
        with self.weights[0].open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return model_id_of(self.name, digest)


def model_id_of(name: str, digest: str) -> str:
    """Return 'name@first 8 of the digest', with what an id may not hold replaced by '-'."""
    last = Path(name.removeprefix(HUB).partition('@')[0]).name
    return f'{re.sub(r"[^A-Za-z0-9_.+-]", "-", last)[:100]}@{digest[:8]}'


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


def find_network(name: str) -> NetworkFolder:
    """Find a network and check its files; downloads it only for hf:owner/name[@revision].

    Args:
        name: a folder, or a network of the Hugging Face Hub. HF_HUB_OFFLINE=1 takes what was downloaded before.

    Raises:
        InputError: model_missing (no such folder or network, or no safetensors in it), model_config (config.json does
            not say which network it is).
    """
    path = _fetched(name) if name.startswith(HUB) else Path(name).expanduser()
    # os.path and not Path: that raises where the system refuses a name, for example as too long.
    if not os.path.isdir(path):
        hint = f', or {HUB}{name} for the Hugging Face Hub' if HUB_ID.fullmatch(name) else ''
        raise InputError('model_missing', f'There is no folder {name[:200]}; give the folder of a network{hint}.')
    if not (path / CONFIG).is_file():
        raise InputError(
            'model_missing', f'{name[:200]} has no {CONFIG}, so it is no network of transformers; {AGAIN}.'
        )
    config = read_json(path / CONFIG)
    architectures = config.get('architectures')
    if not (isinstance(architectures, list) and architectures and isinstance(architectures[0], str)):
        raise InputError('model_config', f'{CONFIG} of {name[:200]} names no architecture; {AGAIN}.')
    return NetworkFolder(path, name, config, architectures[0], _weights(path, name))


def _fetched(name: str) -> Path:
    """Return the folder of a network of the Hub, downloaded if it is not there yet."""
    hub_id, at, revision = name.removeprefix(HUB).partition('@')
    if not HUB_ID.fullmatch(hub_id) or (at and not REVISION.fullmatch(revision)):
        raise InputError('model_missing', f'{name[:200]} is no network of the Hub; give {HUB}owner/name[@revision].')
    try:
        return Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=FETCHED, etag_timeout=FETCH_S))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError, OSError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise InputError(
            'model_missing',
            f'{name} could not be fetched from the Hugging Face Hub ({reason}); check its name and the network, or '
            'give a folder.',
        ) from error


def _weights(path: Path, name: str) -> tuple[Path, ...]:
    """Return the safetensors files of a folder."""
    names = [WEIGHTS]
    if not (path / WEIGHTS).is_file() and (path / SHARDS).is_file():
        shards = read_json(path / SHARDS).get('weight_map')
        if not isinstance(shards, dict) or not all(isinstance(file, str) for file in shards.values()) or not shards:
            raise InputError('model_config', f'{SHARDS} has no weight_map of tensors to files; {AGAIN}.')
        names = sorted({Path(file).name for file in shards.values()})
    for file in names:
        if not (path / file).is_file():
            raise InputError(
                'model_missing',
                f'{name[:200]} has no {file}; only safetensors are read, so convert weights of another format first, '
                f'or {AGAIN}.',
            )
    return tuple(path / file for file in names)


def check_architecture(folder: NetworkFolder, known: tuple[str, ...], what: str) -> None:
    """Refuse a network that is none of the known classes of transformers.

    Args:
        folder: the network.
        known: names of classes.
        what: what they are, for the sentence.

    Raises:
        InputError: model_config.
    """
    if folder.architecture in known:
        return
    own = ' and has code of its own, which is never run' if 'auto_map' in folder.config else ''
    raise InputError(
        'model_config',
        f'{folder.name} is a {folder.architecture}, which is no {what}{own}; give one of {", ".join(known)}.',
    )


def parameters_of(folder: NetworkFolder) -> int:
    """Return the number of parameters, from the headers of the files alone.

    Raises:
        InputError: model_truncated: a file is damaged.
    """
    total = 0
    for path in folder.weights:
        try:
            with safe_open(path, framework='pt') as file:
                for tensor in file.keys():  # noqa: SIM118 - it is not a dict
                    count = 1
                    for size in file.get_slice(tensor).get_shape():
                        count *= size
                    total += count
        except (SafetensorError, OSError) as error:
            raise InputError('model_truncated', f'{path.name} is cut short or damaged ({error}); {AGAIN}.') from error
    return total


def check_memory(folder: NetworkFolder, device: torch.device) -> None:
    """Refuse a network whose weights do not fit into the free memory.

    Args:
        folder: the network, which is loaded in float32.
        device: where it is to run; it passes through the memory of the host in any case.

    Raises:
        InputError: network_memory.
    """
    needed = round(4 * parameters_of(folder) * WORKING)
    free = {'the host': psutil.virtual_memory().available}
    if device.type == 'cuda':
        free[str(device)] = torch.cuda.mem_get_info(device)[0]
    for where, there in free.items():
        if needed > there:
            raise InputError(
                'network_memory',
                f'{folder.name} needs about {needed / 2**30:.1f} GiB and {where} has {there / 2**30:.1f} GiB free; '
                'take a smaller network or stop other programs.',
            )


def device_of(name: str) -> torch.device:
    """Return a device by name; 'auto' is CUDA when there is one.

    Raises:
        InputError: device: there is no such device.
    """
    try:
        device = torch.device(('cuda' if torch.cuda.is_available() else 'cpu') if name == 'auto' else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            'device', f'The device {name!r} cannot be used ({reason}); give auto, cpu, cuda or cuda:N.'
        ) from error
    return device


def load_network(folder: NetworkFolder) -> torch.nn.Module:
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


def load_processor(folder: NetworkFolder, **changes: Any) -> Any:
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
        model_id: its name and the first digits of the checksum of its weights.
        device: the device that it is on.
        weight_bytes: size of its weights.
    """

    def __init__(self, folder: NetworkFolder, device: str, **changes: Any):
        """Load a network.

        Args:
            folder: the folder, of a known architecture.
            device: auto, cpu, cuda or cuda:N.
            changes: values of the image processor that differ from those of the folder.

        Raises:
            InputError: model_config (it cannot be built), network_memory, network_packages, model_truncated,
                model_tensor, device.
        """
        self.device = device_of(device)
        check_memory(folder, self.device)
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

"""`AutoConfig` and `AutoModel` of `transformers` on our checkpoint folders, as soon as `m3et_ros` is imported.

    import m3et_ros
    from transformers import AutoModel
    model = AutoModel.from_pretrained('folder')        # forward as M3ET; model.checkpoint holds the rest

Importing `m3et_ros` imports neither torch nor `transformers`: `watch` leaves a finder that waits for the modules of the
Auto classes and registers ours when they have been loaded. The weights are read by our own loader, with its checks.
"""

import functools
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from m3et_ros.data.checkpoints import MODEL_TYPE

CONFIGS = 'transformers.models.auto.configuration_auto'
MODELS = 'transformers.models.auto.modeling_auto'
HUB_OPTIONS = ('revision', 'token', 'cache_dir', 'force_download', 'local_files_only')
OF_AUTO = ('_from_auto', 'adapter_kwargs', 'trust_remote_code', 'torch_dtype')
"""Options that AutoModel adds itself; no code comes from a checkpoint, so none has to be trusted."""


def watch() -> None:
    """Register our classes with the Auto classes of `transformers`, now or when they are imported; twice is once."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())
    for name in (CONFIGS, MODELS):
        if name in sys.modules:
            _register(sys.modules[name])


class _Watch:
    """A finder that finds nothing itself, and registers our classes after one of the two modules has been loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders have, with a loader that registers; None for other modules."""
        if fullname not in (CONFIGS, MODELS):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, 'find_spec'):
                continue
            spec: Any = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Registering(spec.loader)
                return spec
        return None


class _Registering:
    """The loader of a module of `transformers`, after which our classes are registered with it."""

    def __init__(self, inner: Any):
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and register."""
        self._inner.exec_module(module)
        _register(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _register(module: ModuleType) -> None:
    """Register with AutoConfig or AutoModel, whichever the module holds."""
    if module.__name__ == CONFIGS:
        module.AutoConfig.register(MODEL_TYPE, _config_class(), exist_ok=True)
    else:
        module.AutoModel.register(_config_class(), _model_class(), exist_ok=True)


@functools.cache
def _config_class() -> Any:
    from transformers import PretrainedConfig

    class M3ETAutoConfig(PretrainedConfig):
        """The config.json of a checkpoint, field by field."""

        model_type = MODEL_TYPE

    return M3ETAutoConfig


@functools.cache
def _model_class() -> Any:
    from transformers import PreTrainedModel

    from m3et_ros.data.checkpoints.on_hub import M3ETCheckpoint

    class M3ETAutoModel(PreTrainedModel):
        """An M3ET: forward and its outputs are those of models.m3et.model.M3ET.

        Attributes:
            checkpoint: model, tokenizer, labels and heads (data.checkpoints.m3et.Checkpoint).
            m3et: its model.
        """

        config_class = _config_class()
        base_model_prefix = 'm3et'

        def __init__(self, config: Any, loaded: M3ETCheckpoint):
            super().__init__(config)
            self._loaded = loaded
            self.checkpoint, self.m3et = loaded.checkpoint, loaded.checkpoint.model

        @classmethod
        def from_pretrained(  # type: ignore[override]
            cls, name: str, *_: Any, config: Any = None, dtype: Any = None, **options: Any
        ) -> Any:
            """Read a checkpoint folder, or a model of the Hub.

            Args:
                name: the folder, or owner/name.
                config: its config, where it has been read.
                dtype: data type of the weights; None and 'auto' keep float32.
                options: revision, token, cache_dir, force_download, local_files_only; others are refused.

            Raises:
                InputError: as M3ETCheckpoint.from_pretrained.
                ValueError: an option that this model does not have.
            """
            hub = {key: value for key, value in options.items() if key in HUB_OPTIONS and value is not None}
            odd = sorted(key for key in options if key not in HUB_OPTIONS and key not in OF_AUTO)
            if odd:
                raise ValueError(f'an M3ET has no option {odd[0]!r}; give {", ".join(HUB_OPTIONS)} or dtype')
            loaded = M3ETCheckpoint.from_pretrained(name, download=True, **hub)
            model = cls(config or _config_class().from_pretrained(name, **hub), loaded).eval()
            return model if dtype in (None, 'auto') else model.to(dtype)

        def forward(self, *inputs: Any, **options: Any) -> Any:
            """Encode and decode; arguments and results are those of models.m3et.model.M3ET.forward."""
            return self.m3et(*inputs, **options)

        def save_pretrained(self, save_directory: str, **options: Any) -> None:  # type: ignore[override]
            """Write a checkpoint folder that `from_pretrained` and every command of m3et read."""
            self._loaded.save_pretrained(save_directory, **options)

    return M3ETAutoModel

"""Fused CUDA scans without a compiler: builds of mamba-ssm that the package `kernels` of Hugging Face loads.

    M3ET_FUSED_SCANS=hf:kernels-community/mamba-ssm@COMMIT m3et robot    # fetched once, then from the cache
    M3ET_FUSED_SCANS=/opt/mamba-ssm m3et robot                           # a folder with build/<variant>/; no network

Such a build is code, so nothing is loaded unless the variable names it, and a build of the Hub is named by its commit,
which nobody can change. It serves after the check that an installed mamba-ssm has to pass (ops/dispatch.py).
"""

import logging
import os
import re
from pathlib import Path
from types import ModuleType

import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.extras import require
from m3et_ros.data.hub import HUB, hub_id
from m3et_ros.ops import dispatch, fused

LOG = logging.getLogger(__name__)
VARIABLE = 'M3ET_FUSED_SCANS'
FUNCTIONS = ('selective_scan_fn', 'mamba_chunk_scan_combined')
"""Functions of mamba-ssm that ops/fused.py calls."""


def use_fused() -> None:
    """Have the operators take the scans that M3ET_FUSED_SCANS names; the log says why they cannot."""
    source = os.environ.get(VARIABLE, '')
    if source == fused.origin():
        return
    try:
        if not torch.cuda.is_available():
            raise InputError('fused_scans', f'{source} is for CUDA, and there is no CUDA device; unset {VARIABLE}.')
        fused.use(load(source), source)
    except InputError as error:
        LOG.warning('%s does not hold, and other scans serve: %s', VARIABLE, error)
        return
    LOG.info('The fused scans come from %s.', source)
    dispatch.forget()


def load(source: str) -> ModuleType:
    """Load a build of mamba-ssm for this device and version of torch; this runs code of the build.

    Args:
        source: 'hf:owner/name@commit' with the 40 digits of the commit, or a folder with build/<variant>/ in the layout
            of the Hub, or a folder of one variant.

    Returns:
        The package, with FUNCTIONS.

    Raises:
        InputError: needs_extra; hub_name (no such name, or no commit); hub_offline (HF_HUB_OFFLINE is set, and the
            commit is not in the cache); fused_scans (no build for this machine, it cannot be fetched or imported, it
            needs other kernels, or lacks one of FUNCTIONS).
    """
    require('kernels')
    if not source.startswith(HUB):
        return _import(source, Path(source))
    from huggingface_hub import constants
    from kernels import install_kernel

    repository, commit = hub_id(source)
    if not re.fullmatch('[0-9a-f]{40}', commit or ''):
        raise InputError(
            'hub_name',
            f'{source[:200]} names no commit, and a branch of code may change; give {HUB}owner/name@commit with all 40 '
            'digits.',
        )
    try:
        return _import(source, install_kernel(repository, revision=commit, local_files_only=True))
    except Exception as error:  # it is not there, or only a part of it, after a download that was cut off
        if constants.HF_HUB_OFFLINE:
            raise InputError(
                'hub_offline',
                f'{source} is not complete in the cache ({_first_line(error)}), and HF_HUB_OFFLINE is set; fetch it '
                'once without.',
            ) from error
    try:
        folder = install_kernel(repository, revision=commit)
    except Exception as error:  # its library has an error of its own for every part of the way
        raise InputError(
            'fused_scans',
            f'{source} cannot be fetched ({_first_line(error)}); check the network, the name and the commit.',
        ) from error
    return _import(source, folder)


def _import(source: str, folder: Path) -> ModuleType:
    """Import the build in a folder."""
    from kernels import Metadata, get_local_kernel

    try:
        # kernels would fetch what a build needs, in a version that nothing pins.
        for pattern in ('', '*/', 'build/*/'):
            for path in folder.glob(f'{pattern}metadata.json'):
                if others := Metadata.read_from_file(path).kernel_depends:
                    raise ValueError(f'it needs another kernel, {others[0].repo_id}')
        package = get_local_kernel(folder)
        if absent := [name for name in FUNCTIONS if not hasattr(package, name)]:
            raise ValueError(f'it has no {absent[0]}')
    except Exception as error:  # a build is code and may raise anything
        raise InputError(
            'fused_scans',
            f'The scans of {source} cannot be loaded ({_first_line(error)}); give a build of mamba-ssm for this device '
            'and version of torch.',
        ) from error
    return package


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(':. ')

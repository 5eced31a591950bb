"""Probes of `m3et doctor`. A probe never fails: what is missing or broken becomes a finding with its fix."""

import functools
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

META_PACKAGE = re.compile(r'ros-(humble|iron|jazzy|kilted|lyrical|rolling)-(.+)')
"""Wheels named after a ROS distribution; `ros-DISTRO-NAME` has the version that `ros-NAME` must have."""
NEEDED = (
    'numpy',
    'cv2',
    'torch',
    'safetensors',
    'tokenizers',
    'huggingface_hub',
    'rosbags',
    'typer',
    'tqdm',
    'psutil',
    'yaml',
)
OPTIONAL = {
    'mujoco': 'the simulated kitchen (m3et demo, m3et record)',
    'OpenGL': 'the simulated kitchen on OpenGL',
    'matplotlib': 'pictures and reports of m3et demo and m3et evaluate',
    'jinja2': 'reports of m3et evaluate',
    'accelerate': 'm3et train and m3et teach',
    'aiohttp': 'm3et view, the page in the browser',
    'rerun': 'm3et view --rerun and m3et rerun',
    'foxglove': 'm3et view --foxglove',
    'pyarrow': 'LeRobot data sets',
    'transformers': 'language models, and networks of others',
    'mamba_ssm': 'fused CUDA scans',
    'nncf': 'm3et build openvino --precision int8',
    'kernels': 'fused CUDA scans without a compiler (M3ET_FUSED_SCANS)',
    'mcp': 'm3et mcp, tools for agents',
    'uvicorn': 'm3et mcp --http',
    'vision_msgs': 'LabelInfo beside our LabelMap, and detections',
    'launch_ros': 'ros2 launch',
}
"""Optional modules and their use."""
VARIABLES = (
    'HOME',
    'RMW_IMPLEMENTATION',
    'ROS_DOMAIN_ID',
    'ROS_AUTOMATIC_DISCOVERY_RANGE',
    'ROS_LOG_DIR',
    'FASTRTPS_DEFAULT_PROFILES_FILE',
    'FASTDDS_DEFAULT_PROFILES_FILE',
    'PYTHONPATH',
)
SHARED_MEMORY = Path('/dev/shm')
SHARED_MEMORY_NEEDED = 256 * 2**20
"""Bytes; each participant with the large-image profile takes a segment of 64 MB."""


@dataclass(frozen=True)
class Finding:
    """A defect of the installation and its fix."""

    # 'error' when something needed is broken, 'warning' when something else is.
    level: str
    # The defect and why it matters.
    what: str
    # The way to fix it.
    fix: str


class Diagnosis(list):
    """The findings of all probes, in order."""

    def error(self, what: str, fix: str) -> None:
        """Add a finding about something needed that is broken."""
        self.append(Finding('error', what, fix))

    def warning(self, what: str, fix: str) -> None:
        """Add a finding about something that works less well than it could."""
        self.append(Finding('warning', what, fix))


def environment(findings: Diagnosis) -> dict:
    """Return the variables that decide about ROS; this comes first, because rcl ends a process that they do not fit."""
    from m3et_ros.ros.environment import DROPPED, check_domain, foreign_shared_memory, settle

    found = {name: os.environ.get(name) or DROPPED.get(name) for name in VARIABLES}
    for trouble in (*settle(), foreign_shared_memory()):
        if trouble is not None:
            findings.warning(trouble.what, trouble.fix)
    try:
        check_domain()
    except ValueError as error:
        what, _, fix = str(error).partition('; ')
        findings.error(what, fix)
    return found


def machine(findings: Diagnosis) -> dict:
    """Return interpreter, platform, processors and memory."""
    return {
        'python': platform.python_version(),
        'executable': sys.executable,
        'platform': platform.platform(),
        'processors': os.cpu_count(),
        'usable_processors': len(os.sched_getaffinity(0)),
        'shared_memory': _shared_memory(findings),
    }


def package(findings: Diagnosis) -> dict:
    """Return version and folder of this package, and True for `interfaces` if its messages were compiled."""
    import m3et_ros

    interfaces = True
    try:
        importlib.import_module('m3et_ros.msg').Answer()
    except Exception as error:
        interfaces = False
        compiler = '' if shutil.which('g++') else 'apt install g++ make, then '
        findings.error(
            f'the ROS interfaces cannot be used ({_describe(error)})',
            f'{compiler}pip install . in the source folder, or source your colcon workspace',
        )
    return {
        'version': m3et_ros.__version__,
        'folder': str(Path(m3et_ros.__file__).parent),
        'interfaces': interfaces,
        'compiler': shutil.which('g++'),
    }


def libraries(findings: Diagnosis) -> dict:
    """Return the versions of needed modules, which are imported; None for those that fail."""
    found = {name: _version(name, findings) for name in NEEDED}
    if found['cv2']:
        _check_opencv(findings)
    return found


def extras(findings: Diagnosis) -> dict:
    """Return the versions of optional modules without importing them; None for those that are not installed."""
    del findings
    return {name: {'version': _installed(name), 'for': purpose} for name, purpose in OPTIONAL.items()}


def compute(findings: Diagnosis) -> dict:
    """Return torch, its threads, CUDA, the runtimes, and the chosen scan kernels with the reason."""
    try:
        import torch
    except Exception:
        return {}
    cuda = torch.cuda.is_available()
    found = {
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
        'cuda': torch.version.cuda,
        'devices': [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else [],
    }
    if torch.version.cuda and not cuda:
        findings.warning('torch was built for CUDA but sees no GPU', 'check nvidia-smi, or use the CPU')
    try:
        from m3et_ros.ops.dispatch import describe
        from m3et_ros.runtime.backends import RUNTIMES, missing
        from m3et_ros.runtime.fused_scans import use_fused
        from m3et_ros.runtime.kernels import use_built

        use_built()
        use_fused()
        found['runtimes'] = {name: missing(name) or 'ready' for name in RUNTIMES if name != 'auto'}
        found['kernels'] = [
            {'op': k.op, 'kernel': k.name, 'max_error': k.max_error, 'reason': k.reason}
            for k in describe(torch.device('cuda' if cuda else 'cpu'))
        ]
    except Exception as error:
        findings.error(f'the scan kernels cannot be described ({_describe(error)})', 'reinstall m3et_ros')
    return found


def ros(findings: Diagnosis) -> dict:
    """Return distribution, client library, middleware, profile and domain of ROS."""
    wheels = _wheel_distributions(findings)
    sourced = os.environ.get('ROS_DISTRO')
    if sourced and wheels:
        findings.warning(
            f'ROS {sourced} is sourced beside the PyPI wheels of {", ".join(wheels)}; two client '
            'libraries in one process break',
            'open a shell without setup.bash, or use a venv without the wheels',
        )
    origin = 'wheels' if wheels else None
    if sourced and not wheels:
        origin = 'installation'
    found = {
        'distribution': sourced or ', '.join(wheels) or None,
        'from': origin,
        'domain_id': os.environ.get('ROS_DOMAIN_ID') or '0',
        'discovery_range': os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE') or 'SUBNET',
        'rmw': None,
        'rclpy': None,
        'profile': None,
    }
    try:
        import rclpy

        found['rmw'] = rclpy.get_rmw_implementation_identifier()
        found['rclpy'] = _installed('rclpy') or _installed('ros-rclpy')
    except Exception as error:
        findings.error(
            f'rclpy does not work ({_describe(error)})',
            'pip install m3et_ros in a fresh venv, or source a ROS 2 installation',
        )
    found['profile'] = _attempt(_prepare_middleware, findings, 'the middleware settings')
    return found


def graphics(findings: Diagnosis) -> dict:
    """Return the renderer of the simulated kitchen, and why better ones do not work."""
    try:
        from m3et_ros.data.kitchen.sim.episode import import_mujoco
        from m3et_ros.data.kitchen.sim.renderers import BACKENDS, OPENGL, obstacle

        import_mujoco()
    except Exception as error:
        findings.warning(f'the simulated kitchen is not available ({_describe(error)})', "pip install 'm3et_ros[sim]'")
        return {'backend': None}
    why_not = {}
    for name in BACKENDS:
        reason = obstacle(name) if name in OPENGL else ''
        if not reason:
            break
        why_not[name] = reason
    if name not in OPENGL:
        findings.warning(
            'no OpenGL works here, so the simulated kitchen is ray-cast on the CPU, slowly and without shading',
            'apt install libosmesa6',
        )
    return {'backend': name, 'why_not': why_not}


PROBES: dict[str, Callable[[Diagnosis], dict]] = {
    'environment': environment,
    'machine': machine,
    'package': package,
    'libraries': libraries,
    'compute': compute,
    'ros': ros,
    'graphics': graphics,
    'extras': extras,
}


def examine() -> tuple[dict, Diagnosis]:
    """Run every probe and return the facts by topic, and the findings."""
    findings = Diagnosis()
    facts = {}
    for name, probe in PROBES.items():
        facts[name] = _attempt(functools.partial(probe, findings), findings, f'the probe of {name}') or {}
    return facts, findings


def _attempt(probe: Callable[[], Any], findings: Diagnosis, what: str) -> Any:
    """Return the result of a probe, or None with a warning if it fails; `what` names it."""
    try:
        return probe()
    except Exception as error:
        findings.warning(f'{what} could not be examined ({_describe(error)})', 'reinstall m3et_ros')
        return None


def _prepare_middleware() -> str:
    """Prepare the middleware as a node does, and return the profile it uses."""
    from m3et_ros.ros import process

    return process.prepare()


def _wheel_distributions(findings: Diagnosis) -> list[str]:
    """Return the ROS distributions of the installed wheels, and report wheels that do not belong together."""
    versions = {d.metadata['Name'].lower(): d for d in importlib.metadata.distributions() if d.metadata['Name']}
    found = {}
    for name, distribution in versions.items():
        if match := META_PACKAGE.fullmatch(name):
            found.setdefault(match[1], []).append((f'ros-{match[2]}', distribution.version))
    if len(found) > 1:
        findings.error(
            f'wheels of {" and ".join(sorted(found))} are mixed', 'make a fresh venv and install m3et_ros alone'
        )
    for distro, pins in found.items():
        for name, version in pins:
            other = versions[name].version if name in versions else version
            if other != version:
                findings.error(
                    f'{name} {other} is installed with ROS {distro}, whose version is {version}',
                    f'pip install {name}=={version}; always name the distribution',
                )
    return sorted(found)


def _check_opencv(findings: Diagnosis) -> None:
    """Encode and decode an image: an OpenCV built for another NumPy can be imported and fails here."""
    try:
        import cv2
        import numpy as np

        pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
        same = (cv2.imdecode(cv2.imencode('.png', pixels)[1], cv2.IMREAD_COLOR) == pixels).all()
    except Exception as error:
        findings.error(
            f'OpenCV and NumPy do not work together ({_describe(error)})',
            'pip install --force-reinstall opencv-python-headless numpy',
        )
        return
    if not same:
        findings.error('OpenCV does not decode what it encoded', 'pip install --force-reinstall opencv-python-headless')


def _version(module: str, findings: Diagnosis) -> str | None:
    """Import a module and return its version, or None with an error if it fails."""
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        findings.error(f'{module} cannot be imported ({_describe(error)})', 'pip install -r requirements/run.txt')
        return None
    return str(getattr(loaded, '__version__', None) or _installed(module))


def _installed(module: str) -> str | None:
    """Return the version of the distribution that holds a module, without importing it; None without one."""
    names = _distributions(tuple(sys.path)).get(module) or [module]
    try:
        return importlib.metadata.version(names[0])
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _distributions(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Return module -> distributions on sys.path, whose metadata take a tenth of a second to read."""
    del path
    return importlib.metadata.packages_distributions()


def _shared_memory(findings: Diagnosis) -> dict | None:
    """Return size and free space of the shared memory in bytes, with a warning if it is too small."""
    if not SHARED_MEMORY.is_dir():
        return None
    usage = shutil.disk_usage(SHARED_MEMORY)
    if usage.free < SHARED_MEMORY_NEEDED:
        findings.warning(
            f'{usage.free / 2**20:.0f} MB of shared memory are free, and images between nodes need '
            f'{SHARED_MEMORY_NEEDED // 2**20} MB',
            'docker run --shm-size=1g, or remove stale files there',
        )
    return {'bytes': usage.total, 'free': usage.free}


def _describe(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'

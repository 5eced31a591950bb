"""Packages that a robot does not need: `pip install 'm3et_ros[sim,train,report]'` brings them."""

from importlib import import_module

from m3et_ros.data.errors import InputError

EXTRAS = {
    'sim': ('The simulated kitchen', ('mujoco',)),
    'train': ('Training', ('accelerate',)),
    'report': ('A report', ('matplotlib', 'jinja2')),
    'view': ('The page', ('aiohttp',)),
    'rerun': ('A view in Rerun', ('rerun',)),
    'foxglove': ('A view in Foxglove', ('foxglove',)),
    'kernels': ('A fused scan of the Hub', ('kernels',)),
    'int8': ('Building int8 graphs', ('nncf',)),
    'mcp': ('The server for agents', ('mcp', 'uvicorn')),
}
"""Use and modules of each extra."""


def require(*extras: str) -> None:
    """Check that the modules of some extras can be imported.

    Args:
        extras: names of EXTRAS.

    Raises:
        InputError: 'needs_extra', with the command that installs all that are absent.
    """
    absent = {name: missing for name in extras if (missing := [m for m in EXTRAS[name][1] if not _works(m)])}
    if absent:
        uses = ' and '.join(
            f'{EXTRAS[name][0] if n == 0 else EXTRAS[name][0].lower()} needs {" and ".join(missing)}'
            for n, (name, missing) in enumerate(absent.items())
        )
        raise InputError(
            'needs_extra', f"{uses}, which cannot be imported; run pip install 'm3et_ros[{','.join(absent)}]'."
        )


def _works(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True

"""The one door to MuJoCo, which is an optional dependency."""


def import_mujoco():
    """The mujoco module.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        import mujoco
    except ImportError as error:
        raise ImportError('the simulated kitchen needs MuJoCo; run `pip install m3et_ros[sim]`') from error
    return mujoco

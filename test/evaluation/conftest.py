"""Nothing here is judged by the clock: other processes share the machine."""

from hypothesis import settings

settings.register_profile('no_clock', deadline=None)
settings.load_profile('no_clock')

"""State-space operators on plain tensors: selective scan (S6) and state-space dual (SSD)."""

from m3et_ros.ops import (
    selective_scan,  # noqa: F401 - registers its operator with the dispatch
    ssd,  # noqa: F401 - registers its operator with the dispatch
)

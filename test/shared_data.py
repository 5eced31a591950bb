"""The folder of recordings and annotations that are not part of the repository."""

import os
from pathlib import Path

SHARED = Path(os.environ.get('M3ET_DATA') or Path(__file__).resolve().parents[2] / 'shared/data')

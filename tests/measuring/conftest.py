"""The bench is a package beside the tests: put the project's folder on the import path."""

import sys
from pathlib import Path

_PROJECT = str(Path(__file__).parents[2])
if _PROJECT not in sys.path:
    sys.path.append(_PROJECT)

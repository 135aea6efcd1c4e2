"""The rows of the catalogue use the cohorts and settings of the bundles' tests, and what writes DICOM."""

import sys
from pathlib import Path

for folder in ("bundles", "transforms"):
    sys.path.append(str(Path(__file__).parents[1] / folder))

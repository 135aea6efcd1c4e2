"""Many runs compared: arms x folds x label fractions x random seeds.

A study file names bundle commands; each runs as a process of its own. Nothing here imports training code.
"""

from mtmed.studies.plan import Job, Plan, Run, make_plan
from mtmed.studies.study import Step, Study
from mtmed.studies.study_file import read_study

__all__ = ["Job", "Plan", "Run", "Step", "Study", "make_plan", "read_study"]

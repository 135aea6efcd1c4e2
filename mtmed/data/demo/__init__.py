"""Generated cohorts for trying, testing and teaching: made once, the same on every run, in the layout of real data."""

from mtmed.data.demo.abdomen_ct import demo_abdomen_ct, demo_abdomen_organs
from mtmed.data.demo.abdomen_mr import demo_abdomen_mr
from mtmed.data.demo.brain_mr import demo_brain_ms
from mtmed.data.demo.chest_xray import demo_chest_xray
from mtmed.data.demo.kidney_ct import demo_kidney_ct

__all__ = [
    "demo_abdomen_ct",
    "demo_abdomen_mr",
    "demo_abdomen_organs",
    "demo_brain_ms",
    "demo_chest_xray",
    "demo_kidney_ct",
]

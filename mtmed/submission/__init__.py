"""Predictions of a public challenge's test cases, packed as its website takes them."""

from mtmed.submission.isbi2015 import write_isbi_submission
from mtmed.submission.kits19 import write_kits_submission

__all__ = ["write_isbi_submission", "write_kits_submission"]

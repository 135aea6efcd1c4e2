"""Predictions of a public challenge's test cases, as its website takes them."""

from mtmed.submission.isbi2015 import write_isbi_submission
from mtmed.submission.kits19 import write_kits_submission
from mtmed.submission.uw_madison import write_uw_madison_submission

__all__ = ["write_isbi_submission", "write_kits_submission", "write_uw_madison_submission"]

"""The check of a training set, before a run is paid for: captions, sizes, faces, balance, precision."""

from sosie.dataset.check.check import check_dataset
from sosie.dataset.check.precision import check_precision
from sosie.dataset.check.report import Balance, Bucket, DatasetImage, DatasetReport

__all__ = [
    "Balance",
    "Bucket",
    "DatasetImage",
    "DatasetReport",
    "check_dataset",
    "check_precision",
]

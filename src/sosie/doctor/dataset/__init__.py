"""The check of a training set, before a run is paid for: captions, sizes, faces, balance, precision."""

from sosie.doctor.dataset.captions import Captions, read_captions
from sosie.doctor.dataset.check import check_dataset
from sosie.doctor.dataset.codes import CODES
from sosie.doctor.dataset.precision import check_precision
from sosie.doctor.dataset.report import Balance, Bucket, DatasetImage, DatasetReport

__all__ = [
    "CODES",
    "Balance",
    "Bucket",
    "Captions",
    "DatasetImage",
    "DatasetReport",
    "check_dataset",
    "check_precision",
    "read_captions",
]

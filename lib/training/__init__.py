"""The one training loop of the course, and what a trained model is worth.

``descend`` holds the five moves of every training loop: forward, loss, zero_grad, backward, step. ``fit`` repeats it
over shuffled batches, writes a history and, where asked, checkpoints. The data are whole tensors that lie on the device
and are cut into batches by ``index_select``; a ``DataLoader`` that fetches one sample after another costs more than the
network itself.

``python -m lib.training --help`` says how to train from the command line, with several processes, too.
"""

from lib.training._evaluation import (
    CalibrationBins,
    Evaluation,
    accuracy,
    calibration_bins,
    evaluate,
    expected_calibration_error,
    predict,
)
from lib.training._fit import descend, fit, gradient_norm, order
from lib.training._history import History
from lib.training._spread import PRECISIONS, device, processes, rank

__all__ = [
    "PRECISIONS",
    "CalibrationBins",
    "Evaluation",
    "History",
    "accuracy",
    "calibration_bins",
    "descend",
    "device",
    "evaluate",
    "expected_calibration_error",
    "fit",
    "gradient_norm",
    "order",
    "predict",
    "processes",
    "rank",
]

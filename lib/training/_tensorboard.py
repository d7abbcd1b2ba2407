"""A log of the history for TensorBoard."""

from itertools import islice


class TensorBoard:
    """Writes what ``fit`` records into a folder, if one is given.

    Args:
        folder: for the log, None for no log.
        step: the number of steps that lie behind; what an earlier log holds from there on is dropped.

    Raises:
        ModuleNotFoundError: if the package is missing.
    """

    def __init__(self, folder, step):
        self._writer = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter  # a second's import, which few runs need
            except ModuleNotFoundError as error:
                error.add_note("A log for TensorBoard needs its package: pip install tensorboard")
                raise
            self._writer = SummaryWriter(folder, purge_step=step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._writer:
            self._writer.close()

    def steps(self, history, start, stop):
        """Log what the steps from ``start`` to ``stop`` saw."""
        if self._writer:
            for name in ("loss", "gradient_norm", "learning_rate"):
                for step, value in enumerate(islice(getattr(history, name), start, stop), start):
                    self._writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, history):
        """Log what is known of the epoch that has just ended, at its last step."""
        if self._writer:
            for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"):
                for value in getattr(history, name)[-1:]:
                    self._writer.add_scalar(f"epoch/{name}", value, len(history.loss) - 1)

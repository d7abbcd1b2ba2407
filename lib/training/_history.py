"""What a training run saw."""

from dataclasses import dataclass, field


@dataclass
class History:
    """What a training run saw, as plain numbers: ready to plot, and for JSON by ``dataclasses.asdict``.

    The lists for test data and for classes stay empty where there are none.

    Attributes:
        loss: for each step, the loss of its batch before the step.
        learning_rate: for each step, the learning rate of the optimizer's first group of parameters.
        gradient_norm: for each step, the Euclidean norm of the gradient of all parameters.
        correct: for each step, how many targets of its batch the model got right before the step.
        train_loss: for each epoch, the mean of its steps' losses.
        train_accuracy: for each epoch, the share of the targets that were right when their turn came.
        test_loss: the loss on the test data after each epoch.
        test_accuracy: the accuracy on the test data after each epoch.
        seconds: for each epoch, the time it trained, without evaluation and checkpoints.
    """

    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    correct: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

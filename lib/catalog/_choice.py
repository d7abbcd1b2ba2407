"""What losses are chosen by: the tasks, the troubles with the data, and the decisions that follow from a prediction."""

TASKS = {
    "predict a number": "The target is a number: a price, a temperature, a rating.",
    "predict a range": "Besides the number, or instead of it, it matters how far off it may be.",
    "predict a count": "The target says how often something happened: 0, 1, 2 and so on.",
    "pick one class": "Exactly one of several classes is true.",
    "answer yes or no": "Something is true or not; several such questions do not exclude each other.",
    "order items": "What should come first, in a search, a list or a shop?",
    "compare things": "Embeddings of like things are to lie close together, those of others apart.",
    "predict a sequence": "The target is a text, a transcript or another row of labels.",
    "find boxes": "Objects in an image are to be framed.",
    "mark pixels": "Each pixel belongs to an object or not: segmentation.",
    "match a distribution": "The target is a distribution: a teacher's answer, say, or the prior of a latent vector.",
    "generate samples": "A generator and a discriminator learn against each other.",
    "keep a model simple": "A penalty on the parameters stands beside the loss.",
    "combine losses": "Several losses are minimised at once.",
    "withstand attacks": "Small changes of the input, made on purpose, must not change the answer.",
}

TROUBLES = {
    "outliers": "A few targets are far off, and must not decide the rest.",
    "uneven noise": "Some targets are noisier than others, and nobody has said which.",
    "unequal costs": "An error to one side, or of one kind, costs more than one to the other.",
    "rare classes": "What matters is rare: one class, a yes, the foreground.",
    "wrong labels": "Some of the labels are wrong, and it is not known which.",
    "overconfidence": "The model is surer than it is right.",
    "few labels": "Most samples have no label.",
    "few examples": "A class has a handful of examples, or appears only after training.",
    "no negative examples": "It is known what was chosen or what belongs together, but not what was refused.",
    "many classes": "The classes, words or items are tens of thousands.",
    "little memory": "What the loss needs does not fit on one device.",
    "no alignment": "What was said is known, but not when.",
    "boxes that miss": "Predicted boxes do not touch their targets yet.",
    "sure discriminator": "The discriminator tells every fake, and the generator learns nothing from it.",
    "irrelevant features": "Most of the features have nothing to do with the target.",
    "correlated features": "Several features say nearly the same.",
    "overfitting": "The training data are learnt by heart.",
    "terms of different size": "The losses that are added up have different units, or fall at different speeds.",
}

DECISIONS = {
    "the average": "Amounts are added up, as in budgets and totals, so the predictions have to be right on average.",
    "the typical value": "One number stands for the usual case, and rare cases must not move it.",
    "a level": "A value is wanted that is exceeded with a given probability: a stock, a reserve, an interval.",
    "a probability": "What follows weighs probabilities: a threshold set by costs, a wager, an expectation.",
    "the likeliest class": "Only the best answer is used.",
    "an order": "The first few are shown.",
    "a distance": "The nearest are looked up, or a pair counts as the same below a threshold.",
}

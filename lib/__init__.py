"""The library behind the executable course on loss functions."""

"""The losses beside their peers, as ratios measured in one run: ``make bench``."""

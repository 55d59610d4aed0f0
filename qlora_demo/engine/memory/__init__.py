"""What a model and a training step take: predicted, measured, and on which hardware it fits."""

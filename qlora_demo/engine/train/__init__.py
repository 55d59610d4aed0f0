"""One training run: trainer, callback, checkpoints, and the proof that its adapter loads again."""

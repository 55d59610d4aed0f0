"""See, run and trust QLoRA: measure a model's memory, train a star-rating classifier, type a review."""

__version__ = "0.1.0"

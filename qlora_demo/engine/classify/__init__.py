"""Texts to stars, and why; what a file of reviews holds."""

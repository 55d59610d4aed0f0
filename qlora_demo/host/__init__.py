"""Whose machine this is, who asks, and what they may ask for."""

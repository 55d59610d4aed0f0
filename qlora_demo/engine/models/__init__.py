"""Where a model comes from, what it consists of, and how it is loaded."""

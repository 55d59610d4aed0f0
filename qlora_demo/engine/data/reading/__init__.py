"""A file of rows, however messy, as chunks of cells."""

"""The commands of `python -m qlora_demo`; each module adds its own to the parser. Importing this loads nothing
heavy.
"""

"""The ground that every floor stands on: settings, records, errors, words. Knows no torch, no gradio, and no other
floor.
"""

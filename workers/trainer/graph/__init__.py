"""Traced steps: their keys, their constants, and the loops compiled from them."""

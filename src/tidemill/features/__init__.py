"""Declarative feature steps, one a file: fitted on training rows, the same code in training and serving."""

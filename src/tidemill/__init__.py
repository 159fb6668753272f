"""Tidemill: a closed-loop machine-learning system."""

"""Sources, cleaning, split keys and splits, typed memory-mapped arrays."""

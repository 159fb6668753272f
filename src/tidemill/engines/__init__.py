"""Where work runs. An engine runs an importable function with JSON arguments, so that a job can cross machines."""

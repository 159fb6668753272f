"""The syntax of ``tidemill.yaml`` and of the environment.

``load_config`` reads and checks a file and reports *all* faults at once, each with its line and the nearest right
name; ``write_config`` writes one with a comment for every key; ``json_schema`` is the same syntax for editors.
What the values mean for a task (which recipes exist, which columns a source has) is checked where it is known.
"""

from __future__ import annotations

from tidemill.config.annotation import AnnotationPolicy, PatternFunction
from tidemill.config.bandit import Bandit
from tidemill.config.durations import parse_duration
from tidemill.config.environment import VARIABLES, Environment, read_environment
from tidemill.config.mlflow import Mlflow
from tidemill.config.model import (
    Audit,
    Config,
    CycleDefaults,
    DecisionRule,
    FeedbackPolicy,
    Gate,
    Keep,
    Limits,
    Recipes,
    RolloutPolicy,
    Serve,
    Splits,
    Triggers,
)
from tidemill.config.reading import CONFIG_NAME, changed, find_project, load_config, make_config
from tidemill.config.training import Training
from tidemill.config.transfer import Transfer
from tidemill.config.tuning import Goal, Tuning, parse_goal
from tidemill.config.writing import SCHEMA_PATH, config_text, json_schema, write_config

__all__ = [
    "CONFIG_NAME",
    "SCHEMA_PATH",
    "VARIABLES",
    "AnnotationPolicy",
    "Audit",
    "Bandit",
    "Config",
    "CycleDefaults",
    "DecisionRule",
    "Environment",
    "FeedbackPolicy",
    "Gate",
    "Goal",
    "Keep",
    "Limits",
    "Mlflow",
    "PatternFunction",
    "Recipes",
    "RolloutPolicy",
    "Serve",
    "Splits",
    "Training",
    "Transfer",
    "Triggers",
    "Tuning",
    "changed",
    "config_text",
    "find_project",
    "json_schema",
    "load_config",
    "make_config",
    "parse_duration",
    "parse_goal",
    "read_environment",
    "write_config",
]

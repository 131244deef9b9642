"""Turnout serves machine-learning pipelines behind one endpoint, and says which variant is better."""

from turnout.authoring import Inputs, Match, Model, Outputs, Pipeline, Query, pipeline

__all__ = ["Inputs", "Match", "Model", "Outputs", "Pipeline", "Query", "pipeline"]
__version__ = "0.1.0"

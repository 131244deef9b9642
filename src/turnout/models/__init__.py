"""Loaded models: what a pipeline calls, the instances behind it, and the batching between."""

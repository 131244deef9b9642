"""The chat example: models, features and pipelines that the document names."""

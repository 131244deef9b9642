"""The pipelines that come with Turnout. They use the public API only, so they are also the examples to copy.

Named in a document by their short names (`catalog.py`): `code: predict`.
"""

from turnout.authoring import Inputs, Model, Outputs, pipeline


@pipeline
async def predict(inputs: Inputs, *, model: Model[Inputs, Outputs]) -> Outputs:
    """Whatever one model answers: the endpoint takes the model's inputs and gives its outputs."""
    return await model(inputs)

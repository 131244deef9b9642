"""Train `flower.onnx` and `flower-v2.onnx`: three species of iris from four measurements (scikit-learn's iris data).

Run it again with `python examples/hello/train.py`; it needs scikit-learn and skl2onnx. The files it writes are
committed, so that serving needs neither. The second one is regularised less, for a first experiment.
"""

from pathlib import Path

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODELS = {"flower": 1.0, "flower-v2": 30.0}
"""Name to inverse strength of the regularisation."""


def main() -> None:
    for name, strength in MODELS.items():
        train(name, strength)


def train(name: str, strength: float) -> None:
    iris = load_iris()
    species = iris.target_names[iris.target]
    seen, held_out, seen_species, held_out_species = train_test_split(
        iris.data, species, test_size=0.3, random_state=0, stratify=species
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(seen, seen_species)
    print(f"{name}: held-out accuracy: {model.score(held_out, held_out_species):.3f} of {len(held_out)} flowers")

    graph = to_onnx(
        model,
        initial_types=[("measurements", FloatTensorType([None, 4]))],
        final_types=[("species", None), ("probabilities", None)],
        options={"zipmap": False},
        target_opset=17,
        name=name,
    )
    graph.doc_string = "Iris species from sepal length and width, petal length and width, in centimetres."
    target = Path(__file__).with_name(f"{name}.onnx")
    target.write_bytes(graph.SerializeToString())
    print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()

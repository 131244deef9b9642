"""Train `flower.onnx`: three species of iris from four measurements (scikit-learn's iris data, 150 flowers).

Run it again with `python examples/hello/train.py`; it needs scikit-learn and skl2onnx. The file it writes is committed,
so that serving needs neither.
"""

from pathlib import Path

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    iris = load_iris()
    species = iris.target_names[iris.target]
    seen, held_out, seen_species, held_out_species = train_test_split(
        iris.data, species, test_size=0.3, random_state=0, stratify=species
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(seen, seen_species)
    print(f"held-out accuracy: {model.score(held_out, held_out_species):.3f} of {len(held_out)} flowers")

    graph = to_onnx(
        model,
        initial_types=[("measurements", FloatTensorType([None, 4]))],
        final_types=[("species", None), ("probabilities", None)],
        options={"zipmap": False},
        target_opset=17,
        name="flower",
    )
    graph.doc_string = "Iris species from sepal length and width, petal length and width, in centimetres."
    target = Path(__file__).with_name("flower.onnx")
    target.write_bytes(graph.SerializeToString())
    print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()

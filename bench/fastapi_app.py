"""The endpoint a team writes by hand: FastAPI on uvicorn, pydantic in and out, the model called in place."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

MODELS = Path(__file__).parent / "results" / "models"


def session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(MODELS / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])


class Row(BaseModel):
    x: list[float]
    user_id: str


class Scores(BaseModel):
    y: list[float]


app = FastAPI()
model = session(os.environ["MODEL"])


@app.post("/predict")
async def predict(row: Row) -> Scores:
    answer = model.run(["y"], {"x": np.asarray(row.x, dtype=np.float32)[None]})[0][0]
    return Scores(y=answer.tolist())

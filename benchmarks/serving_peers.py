"""The other servers for serving.py: each serves one of Tidemill's packages in the way its own documentation shows.

    python benchmarks/serving_peers.py PEER PACKAGE PORT

Images are answered by ONNX Runtime alone over the package's graph, texts by the package's own features and graph, so
that what differs is the serving. Everyone has one process that answers, one thread for the model, and batching where
there is any.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The processes that a server starts by its own command have other arguments.
PEER, PACKAGE, PORT = (os.environ["PEER"], os.environ["PACKAGE"], "0") if "PEER" in os.environ else sys.argv[1:4]
BATCH, PATIENCE = 64, 0.002  # seconds: waiting longer for a batch cost every batching peer throughput and time

Answers = Callable[[list[Any]], list[dict[str, Any]]]


def images() -> bool:
    """Whether the package takes pictures alone."""
    import json

    inputs = json.loads((Path(PACKAGE) / "manifest.json").read_text())["signature"]["inputs"]
    return [field["type"] for field in inputs] == ["image"]


def model() -> Answers:
    """What answers a list of inputs: pictures as nested lists, or rows of texts."""
    if not images():
        from tidemill.runtime import load

        predictor = load(Path(PACKAGE), threads=1)
        predictor.warm_up()
        return lambda rows: list(predictor.predict(rows))
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(Path(PACKAGE) / "model.onnx", options)
    name = session.get_inputs()[0].name

    def answers(rows: list[Any]) -> list[dict[str, Any]]:
        scores = session.run(None, {name: np.asarray(rows, np.uint8).reshape(-1, 28, 28, 1)})[0]
        parts = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = parts / parts.sum(axis=1, keepdims=True)
        return [{"label": int(row.argmax()), "scores": row.tolist()} for row in shares]

    return answers


def taken(inputs: dict[str, Any]) -> Any:
    """A row as :func:`model` takes it."""
    return inputs.get("image", inputs)


def fastapi() -> None:
    """FastAPI over ONNX Runtime, as tutorials show it."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Row(BaseModel):
        inputs: dict[str, Any]

    app, answers = FastAPI(), model()

    async def predict(row: Row) -> dict[str, Any]:
        return answers([taken(row.inputs)])[0]

    predict.__annotations__ = {"row": Row, "return": dict[str, Any]}
    app.post("/predict")(predict)
    uvicorn.run(app, port=int(PORT), log_level="warning", access_log=False)


def litserve() -> None:
    """LitServe with its batching on."""
    server = _litserve.LitServer(
        Api(max_batch_size=BATCH, batch_timeout=PATIENCE), accelerator="cpu", workers_per_device=1
    )
    server.run(port=int(PORT), host="127.0.0.1", generate_client_file=False, log_level="warning", access_log=False)


def bentoml() -> None:
    """BentoML with its adaptive batching on: the server is its command, and imports the class below."""
    os.environ.update(PEER="bentoml-service", PACKAGE=PACKAGE, BENTOML_DO_NOT_TRACK="True")
    os.chdir(Path(__file__).parent)
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "serving_peers:Service"]
    os.execv(command[0], [*command, "--port", PORT, "--host", "127.0.0.1"])


def mlflow() -> None:
    """MLflow's own server over a pyfunc model."""
    import mlflow.pyfunc

    class Model(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            self.answers = model()

        def predict(self, context, model_input, params=None):
            rows = model_input.to_dict("records") if hasattr(model_input, "to_dict") else list(model_input)
            return self.answers(rows)

    os.environ.update(PEER="mlflow-model", PACKAGE=PACKAGE, MLFLOW_DISABLE_TELEMETRY="true")
    import shutil
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"mlflow-{PORT}"
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.pyfunc.save_model(folder, python_model=Model(), pip_requirements=[])
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", str(folder), "-p", PORT]
    os.execv(command[0], [*command, "--env-manager", "local", "--workers", "1"])


# Classes that the servers' own processes import again, each where its library is installed.
if PEER == "litserve":
    import litserve as _litserve

    class Api(_litserve.LitAPI):
        """The model as LitServe serves it."""

        def setup(self, _device: str) -> None:
            self.answers = model()

        def decode_request(self, request):  # LitServe reads annotations, and would not find these
            return taken(request["inputs"])

        def batch(self, inputs: list[Any]) -> list[Any]:
            return inputs

        def predict(self, rows: list[Any]) -> list[dict[str, Any]]:
            return self.answers(rows)

        def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return output

        def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
            return output


if os.environ.get("PEER") == "bentoml-service":
    import bentoml as _bentoml

    @_bentoml.service(workers=1, logging={"access": {"enabled": False}})
    class Service:
        """The model as BentoML serves it."""

        def __init__(self) -> None:
            self.answers = model()

        @_bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=1000)
        def predict(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
            """One answer a row."""
            return self.answers([taken(row) for row in inputs])


def bare() -> None:
    """An ASGI application that decodes the body and answers a constant: what any server in Python pays at least."""
    import orjson
    import uvicorn

    answer = b'{"label":"0","scores":{"0":1.0}}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            parts, more = [], True
            while more:
                message = await receive()
                parts.append(message["body"])
                more = message.get("more_body", False)
            orjson.loads(b"".join(parts))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, port=int(PORT), log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    {"fastapi": fastapi, "litserve": litserve, "bentoml": bentoml, "mlflow": mlflow, "bare": bare}[PEER]()

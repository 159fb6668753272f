"""Seconds a step of a tiny network in one trainer. Run by step_overhead.py, which names the trainer.

python benchmarks/step_overhead_peers.py bare|lightning|accelerate|transformers
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional

ROWS, INPUTS, CLASSES, BATCH, STEPS = 6400, 32, 10, 64, 1500

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Tiny(nn.Module):
    """The network that every trainer trains, ours too."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(INPUTS, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def network() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, INPUTS, generator=generator), torch.randint(0, CLASSES, (ROWS,), generator=generator)


class Loader:
    """Batches by slices of one shuffled copy: the cheapest there is, so that only the trainer is measured."""

    def __init__(self, as_dict: bool = False) -> None:
        self.as_dict = as_dict
        self.x, self.y = rows()

    def __len__(self) -> int:
        return ROWS // BATCH

    def __iter__(self) -> Any:
        order = torch.randperm(ROWS)
        for x, y in zip(self.x[order].split(BATCH), self.y[order].split(BATCH), strict=True):
            yield {"x": x, "labels": y} if self.as_dict else (x, y)


def bare() -> float:
    model, loader = network(), Loader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    done, began = 0, time.perf_counter()
    while done < STEPS:
        for x, y in loader:
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1
    return (time.perf_counter() - began) / done


def lightning() -> float:
    import lightning as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3, fused=True)

        def on_train_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_end(self) -> None:
            self.seconds = time.perf_counter() - self.began

    module = Module()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=STEPS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, Loader())
    return module.seconds / STEPS


def accelerate() -> float:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = network()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True))
    loader = Loader()
    done, began = 0, time.perf_counter()
    while done < STEPS:
        for x, y in loader:
            accelerator.backward(functional.cross_entropy(model(x), y))
            optimizer.step()
            optimizer.zero_grad()
            done += 1
    return (time.perf_counter() - began) / done


def transformers() -> float:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": functional.cross_entropy(self.model(x), labels)}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    class Slices(Trainer):
        def get_train_dataloader(self) -> Any:
            return Loader(as_dict=True)

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            use_cpu=True,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            optim="adamw_torch_fused",
        )
        Slices(model=Model(), args=arguments, callbacks=[clock]).train()
    return clock.seconds / STEPS


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure = {"bare": bare, "lightning": lightning, "accelerate": accelerate, "transformers": transformers}
    measure["bare"]()  # warm
    floors, figures = [], []
    for _ in range(3):
        floors.append(bare())
        figures.append(measure[sys.argv[1]]())
    print(json.dumps({"bare": sorted(floors)[1], "step": sorted(figures)[1]}))

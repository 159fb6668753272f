"""The gradient learner: networks trained by stochastic gradient descent."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features
from tidemill.features._memory import memory_told
from tidemill.learners._base import Context, Export, Problem, RecipeView, Scores
from tidemill.learners._scoring import validation
from tidemill.learners.gradient.augment import make_augment
from tidemill.learners.gradient.batches import Batches, row_values
from tidemill.learners.gradient.device import kept_memory, pick_device, useful_threads
from tidemill.learners.gradient.guard import ThreadGuard
from tidemill.learners.gradient.interrupt import Flag, deferred_interrupt
from tidemill.learners.gradient.mixing import make_change
from tidemill.learners.gradient.own import faults_told
from tidemill.learners.gradient.peers import Peers
from tidemill.learners.gradient.settings import Settings, default_batch_size, default_epochs, read_settings
from tidemill.learners.gradient.state import State, load_network, network_tensors, read_checkpoint, write_checkpoint
from tidemill.learners.gradient.trainer import Trainer, score
from tidemill.networks import build_network
from tidemill.networks._base import Scaled
from tidemill.networks.pretrained import is_pretrained, merged

EVALUATIONS = 50
"""At most about so many looks at the validation rows: hundreds of short epochs do not each pay for one."""


class GradientLearner:
    """Trains a recipe's network; its parameters are :class:`tidemill.learners.gradient.settings.Settings`."""

    name: ClassVar[str] = "gradient"
    streams: ClassVar[bool] = True
    quick: ClassVar[bool] = False

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """What ``epochs`` says, or :func:`tidemill.learners.gradient.settings.default_epochs`; at most ``stop``."""
        settings = read_settings(params)
        epochs = settings.epochs or default_epochs(rows, settings.passes)
        return math.ceil(min(epochs, settings.stop or epochs))

    def usual_params(self, rows: int, classes: int) -> dict[str, Any]:
        """What is chosen by the number of rows, so that a probe on few of them steps as a fit on *rows* will."""
        return {"batch_size": default_batch_size(rows)}

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> GradientModel:
        """Train on ``problem.features[:train]``; keep the weights that did best on the validation rows, if any.

        Rows of weight zero do not train. The best weights are those of the best validation score for images in
        classes, and of the least validation loss for all else. Regression gives value, low and high ``[n, 3]``.

        With ``context.team`` several processes train it together, where a step is long enough for that to pay; what
        comes back is the same (see :mod:`tidemill.learners.gradient.together`).

        With a ``workdir`` it resumes from the checkpoint there, when it is of the same training, and gives the weights
        that an uninterrupted run with as many threads gives: bit for bit on the CPU; on CUDA, which adds up in no fixed
        order, up to rounding.

        Raises:
            TrainingError: a wrong parameter, no rows, a loss that is no longer a number, or a user's own network that
                raises something.
            Pruned: passed on from ``context.report``.
            KeyboardInterrupt: after the checkpoint is written.
        """
        if context.team is not None:
            from tidemill.learners.gradient.together import processes, train_together

            if (count := processes(problem, recipe, context, context.team.processes)) > 1:
                return train_together(problem, recipe, context, context.team, count)
        threads = torch.get_num_threads()
        random = torch.get_rng_state()
        torch.set_num_threads(max(1, context.threads))
        torch.manual_seed(context.seed)
        try:
            with kept_memory(), memory_told("this network"):
                return Fit(problem, recipe, context).run()
        finally:
            torch.set_num_threads(threads)
            torch.set_rng_state(random)

    def trainer(self, problem: Problem, recipe: RecipeView, context: Context) -> Trainer:
        """A trainer for :meth:`Trainer.state`, :meth:`Trainer.local_update` and :meth:`Trainer.merge`.

        Raises:
            TrainingError: a wrong parameter, or no rows.
        """
        torch.manual_seed(context.seed)
        return Fit(problem, recipe, context).trainer


class GradientModel:
    """A trained network on its device."""

    def __init__(
        self,
        network: nn.Module,
        spec: dict[str, Any],
        info: Mapping[str, FeatureInfo],
        device: torch.device,
        summary: dict[str, Any],
    ) -> None:
        self.network = network.eval()
        self.spec = spec
        self.info = info
        self.device = device
        self._summary = summary

    @property
    def summary(self) -> dict[str, Any]:
        """Epochs, steps, parameters, device, number format, seconds of training alone; ``chosen`` repeats the fit."""
        return self._summary

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32 ``[n, classes]``."""
        return score(self.network, features, slice(None), self.device)

    def export(self) -> Export:
        """ONNX graph, tensors and network spec; a module that does not convert is said so in ``note``."""
        from tidemill.learners.gradient.graph import export_onnx

        network = merged(self.network)
        onnx, note = export_onnx(network, self.info)
        if is_pretrained(network):  # it cannot be rebuilt without its checkpoint, so the graph is all that is kept
            return Export(onnx=onnx, note=note)
        tensors = {name: t.detach().cpu().contiguous().numpy() for name, t in self.network.state_dict().items()}
        return Export(onnx=onnx, tensors=tensors, network=self.spec, note=note)


class Fit:
    """One fit: what was chosen for it, and where it stands.

    Args:
        problem, recipe, context: as :meth:`GradientLearner.fit` takes them.
        peers: the processes that train the network together; each makes the same fit for itself.
    """

    def __init__(self, problem: Problem, recipe: RecipeView, context: Context, peers: Peers | None = None) -> None:
        chosen = _rows_that_train(problem)
        rows = problem.train if chosen is None else len(chosen)
        if rows < 1:
            raise TrainingError("there are no training rows", where="dataset", mend="Label some samples first.")
        self.problem = problem
        self.context = context
        self.settings: Settings = read_settings(recipe.params)
        self.peers = peers
        self.device = pick_device(context.device) if peers is None else peers.device
        self.epochs: float = self.settings.epochs or default_epochs(rows, self.settings.passes)
        if context.max_epochs is not None:
            self.epochs = min(self.epochs, context.max_epochs)
        size = min(self.settings.batch_size or default_batch_size(rows), rows)
        self.spec = dict(recipe.network or {"name": "cnn" if "image" in problem.info else "mlp"})
        self.spec |= _overruled(self.settings, self.spec)
        scale = 1.0
        if problem.kind == "regression":
            mean, scale = _moments(problem, chosen)
            self.spec["output"] = {"mean": mean, "std": scale, "interval": True}
        network = build_network(self.spec, problem.info, problem.classes)
        if size == 1 and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):  # noqa: SLF001
            raise TrainingError(
                f"the network {self.spec.get('name')!r} normalises over the rows of a batch, which has only one",
                where="params" if rows > 1 else "dataset",
                mend="Set batch_size to 2 or more." if rows > 1 else "Label more samples first.",
            )
        if recipe.init is not None:
            start(network, recipe.init)
        augment = None
        images = problem.features.get("image")
        if self.settings.augment and isinstance(images, np.ndarray) and problem.kind != "regression":
            augment = make_augment(
                images[: problem.train],
                problem.target[: problem.train],
                shift=self.settings.shift,
                flip=self.settings.flip,
            )
        self.by_score = images is not None and problem.kind == "classification"
        training = np.arange(problem.train) if chosen is None else chosen
        self.batches = Batches(
            problem.features,
            problem.target,
            problem.weight,
            rows,
            size,
            context.seed,
            self.device,
            augment,
            chosen,
            make_change(self.settings, problem, training, self.device),
            (0, 1) if peers is None else (peers.rank, peers.world),
        )
        with faults_told(network):
            fit_inputs(network, problem.features, chosen, problem.train)
            self.trainer = Trainer(
                network,
                self.settings,
                steps=max(1, round(self.epochs * self.batches.steps)),
                kind=problem.kind,
                device=self.device,
                class_weight=self._class_weight(chosen),
                scale=scale,
                peers=peers,
            )
        self.threads = useful_threads(max(1, context.threads), size * row_values(problem.features))
        stop = self.settings.stop or self.epochs
        self.total = max(1, min(len(self.trainer.rates), round(stop * self.batches.steps)))
        self.fingerprint = self._fingerprint(recipe)
        self.curve: list[tuple[int, dict[str, float]]] = []
        self.best: dict[str, torch.Tensor] | None = None
        self.best_at = (-math.inf, -math.inf, 0)
        self.seconds = 0.0
        self.saved = time.perf_counter()
        # a bound on epochs promises the same bits again, so there the thread count stays as it is
        self.guard = ThreadGuard(self.threads if context.max_epochs is None and self.device.type == "cpu" else 1)
        self.losses = torch.zeros((), device=self.device)
        self.counted = 0

    def _class_weight(self, chosen: npt.NDArray[np.int64] | None) -> torch.Tensor | None:
        if self.settings.class_weight is None or self.problem.kind != "classification":
            return None
        rows = slice(self.problem.train) if chosen is None else chosen
        counts = np.bincount(self.problem.target[rows], minlength=self.problem.classes)
        share = counts.sum() / np.maximum(counts, 1) / max((counts > 0).sum(), 1)
        return torch.from_numpy(np.where(counts > 0, share, 0).astype(np.float32)).to(self.device)

    def _fingerprint(self, recipe: RecipeView) -> str:
        problem = self.problem
        facts = json.dumps(
            [self.spec, recipe.params, self.context.seed, self.epochs, problem.train, str(self.device), problem.info],
            sort_keys=True,
            default=str,
        )
        found = hashlib.sha256(facts.encode() + np.ascontiguousarray(problem.target).tobytes())
        if problem.weight is not None:
            found.update(np.ascontiguousarray(problem.weight).tobytes())
        for name, tensor in sorted((recipe.init or {}).items()):
            found.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
        return found.hexdigest()

    def run(self) -> GradientModel:
        """Train to the end, or from the checkpoint to the end."""
        torch.set_num_threads(self.threads)
        workdir = self.context.workdir
        resumed = read_checkpoint(workdir, self.fingerprint) if workdir else None
        if resumed:
            self._load(resumed)
            for epoch, metrics in self.curve:  # whoever listens hears the whole curve
                self.context.report(epoch, metrics)
        if self.peers is not None and self.peers.rank:  # each draws its own dropout
            self.peers.restore_random(resumed.tensors if resumed else {}, self.context.seed)
        with deferred_interrupt() as interrupt:
            try:
                self._epochs(interrupt)
            except KeyboardInterrupt:
                self._save()
                raise
        self._save()
        network = self.trainer.averaged
        if self.best is not None:
            load_network(network, self.best, "best")
        return GradientModel(network, self.spec, self.problem.info, self.device, self._facts(resumed is not None))

    def _epochs(self, interrupt: Flag) -> None:
        total = self.total
        every = math.ceil(self.epochs / EVALUATIONS)
        while self.trainer.step < total and not self._out_of_patience():
            epoch, start = divmod(self.trainer.step, self.batches.steps)
            self._steps(epoch, start, interrupt)
            if (epoch + 1) % every == 0 or self.trainer.step >= total:
                self._evaluate(epoch + 1)
            if interrupt.raised if self.peers is None else self.peers.stopping:
                raise KeyboardInterrupt

    def _out_of_patience(self) -> bool:
        done, within = divmod(self.trainer.step, self.batches.steps)
        patience = self.settings.patience
        watched = len(self.problem.target) > self.problem.train
        return patience is not None and watched and within == 0 and done - self.best_at[2] >= patience

    def _steps(self, epoch: int, start: int, interrupt: Flag) -> None:
        """Train from step *start* of the epoch to its end.

        Between its last step and its evaluation nothing is saved: a resumed run would leave the evaluation out.
        """
        end = min((epoch + 1) * self.batches.steps, self.total)
        clock, watch = time.perf_counter, self.guard.stepped
        begun = before = clock()
        due = self.saved + self.settings.checkpoint_seconds if self.context.workdir else math.inf
        for loss in self.trainer.train(islice(self.batches.epoch(epoch, start), end - self.trainer.step)):
            self.losses += loss
            self.counted += 1
            now = clock()
            watch(now - before)
            stop, save = interrupt.raised, now >= due
            if self.peers is not None:
                stop, save = self.peers.agree(stop, save)
            if self.trainer.step == end:
                break
            if stop:
                raise KeyboardInterrupt
            if save:
                self.seconds += now - begun
                self._check()
                self._save()
                begun = now = clock()
                due = now + self.settings.checkpoint_seconds
            before = now
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - begun

    def _check(self) -> float:
        """The mean training loss since the last evaluation.

        Raises:
            TrainingError: it is not a number.
        """
        loss = float(self.losses) / max(self.counted, 1)
        if not math.isfinite(loss):
            raise TrainingError(
                f"training diverged: the loss is {loss} after {self.trainer.step} steps",
                where=f"network {self.spec.get('name')!r}",
                mend=f"Lower learning_rate (it is {self.trainer.peak:g}), or set clip to 1.",
            )
        return loss

    def _evaluate(self, epoch: int) -> None:
        problem = self.problem
        metrics = {"training_loss": self._check(), "learning_rate": self.trainer.rates[self.trainer.step - 1]}
        self.losses.zero_()
        self.counted = 0
        if len(problem.target) > problem.train:
            scores = self._scores(problem.train, len(problem.target))
            weight = None if problem.weight is None else problem.weight[problem.train :]
            metrics |= validation(problem.kind, scores, problem.target[problem.train :], weight)
            at = (metrics["validation_score"], -metrics["validation_loss"])
            at = at if self.by_score else at[::-1]
            if at > self.best_at[:2]:
                self.best_at = (*at, epoch)
                self.best = network_tensors(self.trainer.averaged, "best")
        self.curve.append((epoch, metrics))
        self.context.report(epoch, metrics)

    def _scores(self, start: int, stop: int) -> Scores:
        """Raw scores of some rows; where several train together, each scores its share."""
        features, peers = self.problem.features, self.peers
        if peers is None:
            return self.trainer.scores(features, slice(start, stop))
        peers.level(self.trainer.network, self.trainer.averaged)
        wide = 3 if self.problem.kind == "regression" else self.problem.classes
        return peers.scores(self.trainer.scores(features, peers.rows(start, stop)), wide)

    def _facts(self, resumed: bool) -> dict[str, Any]:
        return {
            "epochs": round(self.trainer.step / self.batches.steps, 3),
            "best_epoch": self.best_at[2] or None,
            "steps": self.trainer.step,
            "batch_size": self.batches.size,
            "parameters": sum(p.numel() for p in self.trainer.network.parameters()),
            "trained": self.trainer.optimizer.size,
            "device": str(self.device),
            "precision": "bfloat16" if self.trainer.bfloat16 else "float32",
            "threads": self.threads,
            "processes": 1 if self.peers is None else self.peers.world,
            "batch_parts": self.trainer.parts,
            "steps_with_one_thread": self.guard.reduced,
            "seconds": self.seconds,
            "resumed": resumed,
            "chosen": {"epochs": self.epochs, "stop": self._stop(), "batch_size": self.batches.size},
        }

    def _stop(self) -> float | None:
        """Epochs after which the weights were best, when that was before the end of the schedule."""
        best = self.best_at[2] or self.settings.stop
        return best if best and best < self.epochs else None

    def _save(self) -> None:
        if self.context.workdir is None:
            return
        others: dict[str, torch.Tensor] = {}
        if self.peers is not None:
            self.peers.level(self.trainer.network, self.trainer.averaged)
            others = self.peers.random_states()
            if self.peers.rank:
                self.saved = time.perf_counter()
                return
        state = self.trainer.state()
        tensors = state.tensors | others | (self.best or {}) | {"losses": self.losses.cpu()}
        counters = state.counters | {
            "curve": self.curve,
            "best_at": [str(v) for v in self.best_at],
            "seconds": self.seconds,
            "counted": self.counted,
        }
        write_checkpoint(self.context.workdir, State(tensors, counters), self.fingerprint)
        self.saved = time.perf_counter()

    def _load(self, state: State) -> None:
        self.trainer.load(state)
        best = {name: tensor for name, tensor in state.tensors.items() if name.startswith("best/")}
        self.best = best or None
        self.losses.copy_(state.tensors["losses"])
        counters = state.counters
        self.curve = [(epoch, metrics) for epoch, metrics in counters["curve"]]
        accuracy, loss, epoch = counters["best_at"]
        self.best_at = (float(accuracy), float(loss), int(epoch))
        self.seconds, self.counted = counters["seconds"], counters["counted"]


def _overruled(settings: Settings, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the parameters say of the network instead of its own arguments.

    A text's tokens are left out of the batch or silenced in the network, never both.
    """
    said: dict[str, Any] = {} if settings.dropout is None else {"dropout": settings.dropout}
    if settings.token_dropout is not None and spec.get("name") == "transformer":
        said["token_dropout"] = 0.0
    return said


def start(network: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Take over those tensors whose name and shape fit, such as all but the last layer when the labels changed.

    Raises:
        TrainingError: none does.
    """
    fitting = [
        (own, tensors[name])
        for name, own in network.state_dict().items()
        if name in tensors and tuple(own.shape) == tensors[name].shape
    ]
    if not fitting:
        raise TrainingError(
            "none of the weights of the model to start from fits the network",
            where="init",
            mend="Give the recipe the network of the model's own recipe, or leave init out.",
        )
    with torch.no_grad():
        for own, tensor in fitting:
            own.copy_(torch.from_numpy(np.array(tensor)))


def fit_inputs(
    network: nn.Module, features: Features, chosen: npt.NDArray[np.int64] | None, train: int, most: int = 50_000
) -> None:
    """Let a network that offers ``fit_inputs(x)`` look at an even sample of the training rows' ``x``, float32."""
    fit = getattr(network.network if isinstance(network, Scaled) else network, "fit_inputs", None)
    if fit is None or "x" not in features:
        return
    rows = np.arange(train) if chosen is None else chosen
    fit(torch.from_numpy(np.array(features["x"][rows[:: -(-len(rows) // most)]])))


def _rows_that_train(problem: Problem) -> npt.NDArray[np.int64] | None:
    """The training rows without those of weight zero; ``None`` when that is all of them."""
    if problem.weight is None:
        return None
    weighs = problem.weight[: problem.train] > 0
    return None if weighs.all() else np.flatnonzero(weighs)


def _moments(problem: Problem, chosen: npt.NDArray[np.int64] | None) -> tuple[float, float]:
    """Weighted mean and deviation of the training targets; a constant one has deviation 1."""
    rows = slice(problem.train) if chosen is None else chosen
    target = np.asarray(problem.target[rows], np.float64)
    weight = None if problem.weight is None else problem.weight[rows]
    mean = float(np.average(target, weights=weight))
    return mean, float(np.sqrt(np.average((target - mean) ** 2, weights=weight))) or 1.0

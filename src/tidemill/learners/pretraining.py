"""Continued pretraining: an encoder learns from inputs without labels, by guessing what is hidden from it.

Of texts a seventh of the tokens is hidden (Devlin et al., 2018, https://arxiv.org/abs/1810.04805), of images three
patches in five (SimMIM; Xie et al., 2021, https://arxiv.org/abs/2111.09886). It starts from a checkpoint, or small and
at random where there is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tidemill.checkpoints import Checkpoint
from tidemill.checkpoints.tokens import Tokens, tokeniser
from tidemill.errors import ExtraMissingError, TrainingError
from tidemill.features._memory import given_back, memory_told, out_of_memory
from tidemill.learners.gradient.device import bfloat16_pays, pick_device
from tidemill.learners.gradient.optimizer import Optimizer
from tidemill.learners.gradient.schedule import one_cycle

HIDDEN_TOKENS, HIDDEN_PATCHES = 0.15, 0.6
BATCH = 32
LENGTH = 128
_PATCH = 4
_KNOWN = 200  # steps between two reports of the loss
_WARMUP, _DECAY, _CLIP = 0.1, 0.01, 1.0
_FRESH, _GENTLE = 5e-4, 5e-5  # learning rates at random weights, and at those of a checkpoint

OnStep = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of it.

    Attributes:
        before: the mean loss of the first tenth of the steps.
        after: that of the last tenth.
        parameters: how many weights it has.
        parts: how many parts each step was made of in the end, since memory did not suffice for its rows at once.
    """

    before: float
    after: float
    parameters: int
    parts: int = 1


class Subject(Protocol):
    """What is learned from: texts or images."""

    network: Any

    def __len__(self) -> int:
        """How many rows it has."""

    def loss(self, rows: npt.NDArray[np.int64], random: np.random.Generator, device: torch.device) -> Tensor:
        """The loss of guessing what is hidden in some rows."""

    def save(self, folder: Path) -> None:
        """Write the encoder as a checkpoint."""


def pretrain(
    subject: Subject, folder: Path, *, steps: int, rate: float | None, fresh: bool, seed: int, on_step: OnStep
) -> Learned:
    """Train for *steps* steps, and write the checkpoint into *folder*, which is there and empty.

    Args:
        rate: the peak of the learning rate; ``None`` follows from *fresh*.
        fresh: it starts at random.
        on_step: told step and loss now and then; may raise ``KeyboardInterrupt``.

    Raises:
        TrainingError: the loss is no longer a number, or there is too little memory for a single row.
    """
    with memory_told("this encoder"):
        return _pretrain(subject, folder, steps, rate or (_FRESH if fresh else _GENTLE), seed, on_step)


def _pretrain(subject: Subject, folder: Path, steps: int, peak: float, seed: int, on_step: OnStep) -> Learned:
    device = pick_device("auto")
    network: nn.Module = subject.network.to(device)
    rates = one_cycle(steps, peak, _WARMUP)
    optimizer = Optimizer(network, "adamw", _DECAY)
    half = bfloat16_pays(device, network) or bool(torch.cpu._is_amx_tile_supported())  # noqa: SLF001
    losses: list[float] = []
    parts = 1
    network.train()
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        for step, chosen in zip(range(steps), _batches(len(subject), seed), strict=False):
            while (loss := _gradients(subject, np.array_split(chosen, parts), (seed, step), device, half)) is None:
                network.zero_grad()
                given_back(device)
                if parts >= len(chosen):
                    raise TrainingError(
                        f"{device} has too little memory for a step on one row",
                        where="pretraining",
                        mend="Begin from a smaller checkpoint, or end what else uses the device.",
                    )
                parts = min(2 * parts, len(chosen))
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimizer.step(rates[step])
            losses.append(loss)
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"pretraining diverged: the loss is {losses[-1]} after {step + 1} steps",
                    where="pretraining",
                    mend=f"Lower the learning rate (it is {peak:g}).",
                )
            if (step + 1) % _KNOWN == 0 or step + 1 == steps:
                on_step(step + 1, float(np.mean(losses[-_KNOWN:])))
    finally:
        torch.set_rng_state(state)
    network.cpu().eval()
    subject.save(folder)
    tenth = max(1, len(losses) // 10)
    count = sum(p.numel() for p in network.parameters())
    return Learned(float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:])), count, parts)


def _gradients(
    subject: Subject,
    parts: Sequence[npt.NDArray[np.int64]],
    seed: tuple[int, int],
    device: torch.device,
    half: bool,
) -> float | None:
    """Add up the gradients of a batch in parts; its loss, or ``None`` where memory does not suffice."""
    random, rows, total = np.random.default_rng(seed), sum(map(len, parts)), 0.0
    try:
        for part in parts:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = subject.loss(part, random, device) * (len(part) / rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None
    return total


def _batches(rows: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers, a batch at a time, for ever: every row once before any comes again."""
    size, round_ = min(BATCH, rows), 0
    while True:
        order = np.random.default_rng((seed, round_, 1)).permutation(rows)
        for start in range(0, rows - size + 1, size):
            yield order[start : start + size]
        round_ += 1


class HiddenTokens:
    """Texts of which tokens are hidden.

    Args:
        texts: what is read.
        start: a checkpoint, or ``None`` to begin with a small BERT and a tokeniser learned from the texts.
        seed: of the weights.

    Raises:
        TrainingError: the checkpoint cannot guess tokens, or no text has any.
    """

    def __init__(self, texts: Sequence[str], start: Checkpoint | None, *, seed: int) -> None:
        transformers = library()
        self.start = start
        if start is None:
            self.tokens = learned_tokeniser(texts)
            config = transformers.BertConfig(
                vocab_size=self.tokens.vocabulary - 1,
                hidden_size=256,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=1024,
                max_position_embeddings=LENGTH,
                pad_token_id=0,
            )
            self.network = _drawn(lambda: transformers.BertForMaskedLM(config), seed)
        else:
            self.tokens = tokeniser(start, LENGTH)
            self.network = _drawn(lambda: _from(start, transformers.AutoModelForMaskedLM, "masked tokens"), seed)
        self.mask = self.tokens.mark("mask")
        self.marks = np.array([self.tokens.mark(name) for name in ("cls", "sep", "pad")])
        self.pad = int(self.network.config.pad_token_id or 0)
        read = self.tokens(texts)
        self._read = read[self._may_hide(read).any(axis=1)]
        if not len(self._read):
            raise TrainingError("no text has a word that could be hidden", mend="Look at the text columns.")

    def __len__(self) -> int:
        return len(self._read)

    def _ids(self, read: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return np.where(read == 0, self.pad, read.astype(np.int64) - 1)

    def _may_hide(self, read: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return np.asarray((read != 0) & ~np.isin(self._ids(read), self.marks))

    def loss(self, rows: npt.NDArray[np.int64], random: np.random.Generator, device: torch.device) -> Tensor:
        """Of a hidden token's place eight in ten hold the mask, one any token, one the token itself."""
        read = self._read[rows]
        read = read[:, : int((read != 0).sum(axis=1).max())]
        ids, may = self._ids(read), self._may_hide(read)
        hidden = may & (random.random(ids.shape) < HIDDEN_TOKENS)
        if not hidden.any():
            hidden = may
        fate = random.random(ids.shape)
        shown = np.where(hidden & (fate < 0.8), self.mask, ids)
        other = random.integers(0, self.tokens.vocabulary - 1, ids.shape)
        shown = np.where(hidden & (fate >= 0.8) & (fate < 0.9), other, shown)
        wanted = np.where(hidden, ids, -100)
        names = ("input_ids", "attention_mask", "labels")
        given = zip(names, (shown, (read != 0).astype(np.int64), wanted), strict=True)
        found: Tensor = self.network(**{name: torch.from_numpy(array).to(device) for name, array in given}).loss
        return found

    def save(self, folder: Path) -> None:
        """The encoder without the head that guessed, and its tokeniser."""
        _save(self.network.base_model, folder)
        (folder / "tokenizer.json").write_text(json.dumps(self.tokens.told))
        _keep(self.start, folder, ("1_Pooling/config.json",))


class HiddenPatches:
    """Images of which patches are hidden.

    Args:
        images: uint8 ``[n, h, w, c]``, mapped or in memory.
        start: a checkpoint of a ViT, or ``None`` to begin with a small one.
        seed: of the weights.

    Raises:
        TrainingError: the checkpoint is of an architecture that is not made of patches.
    """

    def __init__(self, images: npt.NDArray[np.uint8], start: Checkpoint | None, *, seed: int) -> None:
        from tidemill.checkpoints.backbones import ImageBackbone, load_backbone

        transformers = library()
        self.start = start
        self._images = images
        if start is None:
            side = max(16, min(64, -(-max(images.shape[1:3]) // _PATCH) * _PATCH))
            config = transformers.ViTConfig(
                hidden_size=192,
                num_hidden_layers=4,
                num_attention_heads=3,
                intermediate_size=768,
                image_size=side,
                patch_size=_PATCH,
                encoder_stride=_PATCH,
            )
            self.network = _drawn(lambda: transformers.ViTForMaskedImageModeling(config), seed)
            self._normal = ImageBackbone(self.network.vit, "vit", side, [0.5] * 3, [0.5] * 3, width=192)
        else:
            if start.family not in ("vit", "deit"):
                raise TrainingError(
                    f"patches can be hidden from ViT and DeiT, and the checkpoint is a {start.family}",
                    where=str(start.folder),
                    mend="Choose a ViT, or begin without a checkpoint.",
                )
            kind = transformers.AutoModelForMaskedImageModeling
            self.network = _drawn(lambda: _from(start, kind, "masked patches"), seed)
            found = load_backbone(start)
            assert isinstance(found, ImageBackbone)
            self._normal = found
            self._normal.side = int(self.network.config.image_size)
        self._patches = (self._normal.side // int(self.network.config.patch_size)) ** 2

    def __len__(self) -> int:
        return len(self._images)

    def loss(self, rows: npt.NDArray[np.int64], random: np.random.Generator, device: torch.device) -> Tensor:
        """The mean distance of hidden pixels from what was guessed."""
        self._normal.mean, self._normal.scale = self._normal.mean.to(device), self._normal.scale.to(device)
        pixels = self._normal.pixels(torch.from_numpy(np.array(self._images[rows])).to(device))
        hidden = np.zeros((len(rows), self._patches), bool)
        hidden[:, : max(1, round(HIDDEN_PATCHES * self._patches))] = True
        hidden = random.permuted(hidden, axis=1)
        found: Tensor = self.network(pixel_values=pixels, bool_masked_pos=torch.from_numpy(hidden).to(device)).loss
        return found

    def save(self, folder: Path) -> None:
        """The encoder without the layer that guessed, and how it wants its pixels."""
        _save(self.network.base_model, folder)
        normal = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": self._normal.side}}
        if self.start is None:
            (folder / "preprocessor_config.json").write_text(json.dumps(normal))
        _keep(self.start, folder, ("preprocessor_config.json",))


def learned_tokeniser(texts: Sequence[str]) -> Tokens:
    """A tokeniser of pieces of words learned from the texts, with the marks of BERT."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    marks = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no secret
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    size = int(np.clip(sum(map(len, texts)) // 256, 1000, 16_000))
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=marks, show_progress=False)
    made.train_from_iterator(texts, trainer)
    end, begin = ((name, marks.index(name)) for name in ("[SEP]", "[CLS]"))
    made.post_processor = processors.BertProcessing(end, begin)
    return Tokens(json.loads(made.to_str()), LENGTH)


def library() -> Any:
    """Transformers, which says nothing.

    Raises:
        ExtraMissingError: it is not installed.
    """
    try:
        import transformers
        from transformers.utils import logging as noise
    except ImportError as error:
        raise ExtraMissingError(
            "pretraining needs the package `transformers`", mend="pip install 'tidemill[transfer]'"
        ) from error
    noise.set_verbosity_error()  # type: ignore[no-untyped-call]
    noise.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


def _drawn(make: Callable[[], Any], seed: int) -> Any:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return make()
    finally:
        torch.set_rng_state(state)


def _from(start: Checkpoint, kind: Any, what: str) -> Any:
    try:
        return kind.from_pretrained(
            str(start.folder),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{start.family} cannot be trained on {what} ({str(error).splitlines()[0][:120]})",
            where=str(start.folder),
            mend="Choose another checkpoint, or begin without one.",
        ) from error


def _save(encoder: Any, folder: Path) -> None:
    encoder.save_pretrained(folder, safe_serialization=True)


def _keep(start: Checkpoint | None, folder: Path, names: Sequence[str]) -> None:
    """What says how a checkpoint is read goes with it, and so does its licence."""
    if start is None:
        return
    for name in (*names, "README.md"):
        if (start.folder / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((start.folder / name).read_bytes())

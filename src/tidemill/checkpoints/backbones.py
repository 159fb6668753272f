"""Pretrained encoders as modules: raw features in, one vector a row out, normalisation inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidemill.checkpoints.folder import Checkpoint
from tidemill.errors import ExtraMissingError, TrainingError

_USUAL_MEAN, _USUAL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_USUAL_SIDE = 224


class TextBackbone(nn.Module):
    """Tokens to the mean of their vectors, or to that of the first token.

    Args:
        model: of transformers; gives ``last_hidden_state`` ``[n, length, width]``.
        pad: the id that the checkpoint pads with.
        first: take the first token's vector instead of the mean.
        width: of a vector.
    """

    def __init__(self, model: nn.Module, pad: int, *, first: bool, width: int) -> None:
        super().__init__()
        self.model = model
        self.pad = pad
        self.first = first
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        """``[n, width]`` of int32 ``[n, length]``: 0 for padding, else the checkpoint's id and one."""
        filled = tokens != 0
        # the first place may always be looked at: a row without tokens shall not divide by zero
        seen = filled | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
        ids = torch.where(filled, tokens - 1, self.pad).long()
        hidden: Tensor = self.model(input_ids=ids, attention_mask=seen.long()).last_hidden_state
        if self.first:
            return hidden[:, 0]
        weight = seen[:, :, None].to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


class ImageBackbone(nn.Module):
    """Pixels to one vector: brought to the checkpoint's colours, side and scale, then through its layers.

    Args:
        model: of transformers.
        family: its architecture.
        side: the side in pixels that images are brought to.
        mean, std: per channel, on the scale from 0 to 1.
        width: of a vector.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, model: nn.Module, family: str, side: int, mean: list[float], std: list[float], *, width: int
    ) -> None:
        super().__init__()
        self.model = model
        self.side = side
        self.width = width
        self.patches = family in ("vit", "deit", "dinov2")
        self.given = {"interpolate_pos_encoding": True} if _odd(model, family, side) else {}
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None])
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)[:, None, None]))

    def pixels(self, image: Tensor) -> Tensor:
        """What the model reads of uint8 ``[n, h, w, c]``; one channel stands for three, a fourth is left out."""
        pixels = image.permute(0, 3, 1, 2).float()
        channels = self.mean.shape[0]
        pixels = pixels[:, :1].expand(-1, channels, -1, -1) if pixels.shape[1] < channels else pixels[:, :channels]
        pixels = (pixels - self.mean) * self.scale
        if pixels.shape[2:] != (self.side, self.side):
            pixels = functional.interpolate(pixels, (self.side, self.side), mode="bilinear", align_corners=False)
        return pixels

    def forward(self, image: Tensor) -> Tensor:
        """``[n, width]`` of uint8 ``[n, h, w, c]``."""
        found = self.model(pixel_values=self.pixels(image), **self.given)
        out: Tensor = found.last_hidden_state[:, 0] if self.patches else found.pooler_output.flatten(1)
        return out


Backbone = TextBackbone | ImageBackbone


def load_backbone(checkpoint: Checkpoint, *, side: int | None = None) -> Backbone:
    """The encoder of a checkpoint, in float32 on the CPU, in evaluation mode.

    Args:
        side: of images, in pixels; ``None`` is what the checkpoint was trained on.

    Raises:
        ExtraMissingError: transformers is not installed.
        TrainingError: the weights do not fit the architecture.
    """
    model = _model(checkpoint)
    config = checkpoint.config
    if checkpoint.kind == "text":
        pooling = checkpoint.json("1_Pooling/config.json")
        width = int(getattr(model.config, "hidden_size", 0) or getattr(model.config, "dim", 0))
        first = bool(pooling.get("pooling_mode_cls_token"))
        pad = model.config.pad_token_id
        return TextBackbone(model, int(pad or 0), first=first, width=width).eval()
    told = checkpoint.json("preprocessor_config.json")
    channels = int(config.get("num_channels") or 3)
    mean = [float(value) for value in told.get("image_mean") or _USUAL_MEAN]
    std = [float(value) for value in told.get("image_std") or _USUAL_STD]
    if len(mean) != channels:
        mean, std = [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
    sizes = getattr(model.config, "hidden_sizes", None)
    width = int(sizes[-1] if sizes else model.config.hidden_size)
    wanted = side or _side(config.get("image_size")) or _side(told.get("size")) or _USUAL_SIDE
    return ImageBackbone(model, checkpoint.family, wanted, mean, std, width=width).eval()


def _side(told: Any) -> int | None:
    if isinstance(told, dict):
        told = told.get("height") or told.get("shortest_edge")
    if isinstance(told, list | tuple) and told:
        told = told[0]
    return int(told) if isinstance(told, int) and told > 0 else None


def _odd(model: nn.Module, family: str, side: int) -> bool:
    """Whether places of patches must be interpolated; the others take any size, or do it unasked."""
    return family in ("vit", "deit") and _side(getattr(model.config, "image_size", None)) != side


def _model(checkpoint: Checkpoint) -> Any:
    try:
        from transformers import AutoConfig, AutoModel
        from transformers.utils import logging as noise
    except ImportError as error:
        raise ExtraMissingError(
            "pretrained models need the package `transformers`", mend="pip install 'tidemill[transfer]'"
        ) from error
    noise.set_verbosity_error()  # type: ignore[no-untyped-call]
    noise.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = str(checkpoint.folder)
    # what only tells whole texts or images apart is no part of the vectors taken here
    pooler = {"add_pooling_layer": False} if checkpoint.family in _POOLED else {}
    random = torch.get_rng_state()  # weights that are missing are drawn, and no fit's draws may follow from that
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        model, told = AutoModel.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            **pooler,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"the weights do not fit the architecture {checkpoint.family} ({_first_line(error)})",
            where=folder,
            mend="Download or copy it again.",
        ) from error
    finally:
        torch.set_rng_state(random)
    missing = sorted(name for name in told["missing_keys"] if "pooler" not in name and "mask_token" not in name)
    wrong = [*missing, *(str(entry[0]) for entry in told.get("mismatched_keys") or ())]
    if wrong:
        raise TrainingError(
            f"{len(wrong)} of its weights are missing or of another shape, such as {wrong[0]}",
            where=folder,
            mend="Download or copy it again.",
        )
    return model


_POOLED = ("albert", "bert", "camembert", "deit", "mpnet", "roberta", "vit", "xlm-roberta")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]

"""Small checkpoints with random weights, as Hugging Face writes them, made on the fly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = (
    *("the", "a", "parcel", "was", "late", "early", "lovely", "broken"),
    *("price", "refund", "thanks", "card", "today", "again", "my", "order"),
)


class Checkpoints:
    """Folders of checkpoints by architecture, each made once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, family: str) -> Path:
        folder = self.root / family
        if not folder.exists():
            made = _MAKERS[family]()
            made.save_pretrained(folder, safe_serialization=True)
            if family in _TEXTS:
                (folder / "tokenizer.json").write_text(json.dumps(tokenizer_of(family)))
            (folder / "README.md").write_text("---\nlicense: MIT\n---\n# Random weights\n")
        return folder

    def reference(self, family: str) -> str:
        return f"folder:{self(family)}"


def tokenizer_of(family: str) -> dict[str, Any]:
    """A tokeniser of whole words and letters, with the marks of BERT; padding has the id that the family pads with."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    marks = ["[CLS]", "[PAD]"] if family == "roberta" else ["[PAD]", "[CLS]"]
    names = [*marks, "[SEP]", "[UNK]", "[MASK]", *letters, *(f"##{c}" for c in letters), *WORDS]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(names))}
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"])
    told: dict[str, Any] = json.loads(tokenizer.to_str())
    return told


_TEXTS = ("bert", "roberta", "distilbert")
_SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    return _drawn(lambda: BertModel(BertConfig(**_SIZES)))


def _roberta() -> Any:
    from transformers import RobertaConfig, RobertaModel

    return _drawn(lambda: RobertaModel(RobertaConfig(**_SIZES, pad_token_id=1)))


def _distilbert() -> Any:
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=96, dim=32, n_layers=1, n_heads=4, hidden_dim=48, max_position_embeddings=40)
    return _drawn(lambda: DistilBertModel(config))


def _vit() -> Any:
    from transformers import ViTConfig, ViTModel

    sizes = {k: v for k, v in _SIZES.items() if k not in ("vocab_size", "max_position_embeddings")}
    sizes["num_hidden_layers"] = 1  # tracing takes seconds a layer
    return _drawn(lambda: ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8)))


def _convnext() -> Any:
    from transformers import ConvNextConfig, ConvNextModel

    return _drawn(
        lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=16))
    )


def _resnet() -> Any:
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", image_size=16)
    return _drawn(lambda: ResNetModel(config))


def _drawn(make: Callable[[], Any]) -> Any:
    import torch

    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():  # far enough from nothing that differences show
            parameter.add_(0.05 * torch.randn_like(parameter))
    torch.set_rng_state(state)
    return model


_MAKERS: dict[str, Callable[[], Any]] = {
    "bert": _bert,
    "roberta": _roberta,
    "distilbert": _distilbert,
    "vit": _vit,
    "convnext": _convnext,
    "resnet": _resnet,
}

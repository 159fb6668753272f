"""The peer of preparing.py, a polars script and scikit-learn pipelines; run by it in an environment of its own.

python benchmarks/preparing_peers.py FILE FOLDER SET
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from _common import measured

data, folder, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
MISSING = ["", "?", "NA", "na", "N/A", "n/a", "null", "NULL", "None", "none", "nan", "NaN", "-"]
NUMBERS = ["age", "amount", "balance", "score", "visits", "distance"]
WORDS = ["channel", "region", "product", "shop", "customer"]
DATES = ["ordered", "due"]
DAY = 86_400


def read() -> pl.DataFrame:
    """The file, with what spells a missing value as null and without padding."""
    if data.suffix == ".parquet":
        frame = pl.read_parquet(data)
    else:
        frame = pl.read_csv(data, null_values=MISSING, try_parse_dates=True)
    texts = pl.col(pl.String).str.strip_chars()
    return frame.with_columns(pl.when(texts.is_in(MISSING)).then(None).otherwise(texts).name.keep())


def prepare() -> dict[str, pl.DataFrame]:
    """Cleaned rows without the equal ones, split 70 : 10 : 20 by a hash of their inputs."""
    frame = read().unique(maintain_order=True)
    labels = frame["label"].unique().drop_nulls().sort()
    frame = frame.filter(pl.col("label").is_not_null()).with_columns(
        pl.col("label").replace_strict(labels, np.arange(len(labels)), return_dtype=pl.Int64)
    )
    place = frame.drop("label").hash_rows(seed=0) % 10
    return {"train": frame.filter(place < 7), "validation": frame.filter(place == 7), "test": frame.filter(place > 7)}


def with_moments(frame: pl.DataFrame) -> pl.DataFrame:
    """Dates as days, as places in the year, the week and the day, and whether they are missing."""
    new = []
    for one in DATES:
        column = pl.col(one).cast(pl.Datetime("us"))
        seconds = column.dt.epoch("s")
        turns = {
            "year": column.dt.ordinal_day() / 365.2425,
            "week": (seconds / DAY + 3) % 7 / 7,
            "day": seconds % DAY / DAY,
        }
        new.append((seconds / DAY).alias(f"{one} days"))
        for turn, share in turns.items():
            new += [(share * 2 * np.pi).sin().fill_null(0).alias(f"{one} {turn} sin")]
            new += [(share * 2 * np.pi).cos().fill_null(0).alias(f"{one} {turn} cos")]
        new.append(column.is_null().cast(pl.Float64).alias(f"{one} missing"))
    return frame.with_columns(new).drop(DATES)


def mixed(parts: dict[str, pl.DataFrame]) -> list[int]:
    """Numbers, dates, codes and words of the note, fitted on the training rows."""
    train, validation = (
        with_moments(parts[part]).with_columns(pl.col("note").fill_null("")) for part in ("train", "validation")
    )
    days = [f"{one} days" for one in DATES]
    waves = [column for column in train.columns if column.split()[-1] in ("sin", "cos", "missing")]
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    dense = ColumnTransformer(
        [
            ("numbers", scaled, NUMBERS),
            ("days", make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0)), days),
            ("waves", "passthrough", waves),
        ]
    )
    coded = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=-2,
        min_frequency=2,
        max_categories=1000,
        dtype=np.int64,
    )
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=20_000, dtype=np.float32)
    x = np.concatenate([dense.fit_transform(train), dense.transform(validation)])
    codes = np.concatenate([coded.fit_transform(train[WORDS]), coded.transform(validation[WORDS])])
    ngrams = sparse.vstack([words.fit_transform(train["note"]), words.transform(validation["note"])], format="csr")
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "codes.npy", codes)
    save(ngrams)
    target(train, validation)
    return [len(x), x.shape[1], codes.shape[1], ngrams.shape[1]]


def texts(parts: dict[str, pl.DataFrame]) -> list[int]:
    """Words and characters as TF-IDF or by hash, fitted on the training rows."""
    options: list[dict[str, Any]] = [{"ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)}]
    if name == "texts":
        shared = {"sublinear_tf": True, "min_df": 2, "max_features": 300_000, "dtype": np.float32}
        both = FeatureUnion([(str(i), TfidfVectorizer(**one, **shared)) for i, one in enumerate(options)])
    else:
        shared = {"n_features": 1 << 20, "alternate_sign": False, "dtype": np.float32}
        both = FeatureUnion([(str(i), HashingVectorizer(**one, **shared)) for i, one in enumerate(options)])
    train, validation = (parts[part].with_columns(pl.col("text").fill_null("")) for part in ("train", "validation"))
    ngrams = sparse.vstack([both.fit_transform(train["text"]), both.transform(validation["text"])], format="csr")
    save(ngrams)
    target(train, validation)
    return list(ngrams.shape)


def save(ngrams: Any) -> None:
    for part in ("data", "indices", "indptr"):
        np.save(folder / f"ngrams.{part}.npy", getattr(ngrams, part))


def target(train: pl.DataFrame, validation: pl.DataFrame) -> None:
    np.save(folder / "target.npy", pl.concat([train["label"], validation["label"]]).to_numpy())


results: dict[str, Any] = {}
parts: dict[str, pl.DataFrame] = {}
results["prepare"] = measured(lambda: parts.update(prepare()))
make = mixed if name.startswith("mixed") else texts
results["features"] = measured(lambda: results.update(shape=make(parts)))
print(json.dumps(results))

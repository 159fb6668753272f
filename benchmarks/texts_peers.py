"""scikit-learn's linear models on one split of texts; run by texts.py in an environment of its own.

python benchmarks/texts_peers.py FOLDER
"""

from __future__ import annotations

import csv
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import make_union
from sklearn.svm import LinearSVC

warnings.filterwarnings("ignore")
folder = Path(sys.argv[1])


def read(split: str) -> tuple[list[str], list[str]]:
    with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [" ".join(row[1:]) for row in rows], [row[0] for row in rows]


texts, labels = read("train")
test_texts, _ = read("test")
names = sorted(set(labels))
y = np.array([names.index(label) for label in labels])
begun = time.perf_counter()
union = make_union(
    TfidfVectorizer(analyzer="word", ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True, max_features=300_000),
)
train, test = union.fit_transform(texts), union.transform(test_texts)
features = time.perf_counter() - begun
models = {
    "logistic regression, C = 1": LogisticRegression(C=1, max_iter=300),
    "logistic regression, C = 10": LogisticRegression(C=10, max_iter=300),
    "linear SVM, C = 0.1": LinearSVC(C=0.1),
    "linear SVM, C = 1": LinearSVC(C=1),
    "ridge, alpha = 0.5": RidgeClassifier(alpha=0.5),
    "ridge, alpha = 2": RidgeClassifier(alpha=2),
    "naive Bayes, alpha = 0.01": MultinomialNB(alpha=0.01),
    "naive Bayes, alpha = 0.1": MultinomialNB(alpha=0.1),
    "complement naive Bayes, alpha = 0.1": ComplementNB(alpha=0.1),
}
answers, seconds = {}, {}
for name, model in models.items():
    begun = time.perf_counter()
    answers[name] = model.fit(train, y).predict(test)
    seconds[name] = features + time.perf_counter() - begun
np.savez(folder / "answers.npz", **answers)
print(json.dumps(seconds))

"""What an erasure takes: named by id, once, before anything is changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tidemill.data.forgotten import SAMPLE, digest_of
from tidemill.data.keys import Keys, key_array, key_text
from tidemill.errors import InputError, NotFoundError
from tidemill.project.forgetting import aged
from tidemill.project.forgetting.rows import find_samples, samples_of_content
from tidemill.records import PAIR, Annotation, Feedback, Member, Prediction, QueueItem, Record, Turn
from tidemill.store import Store
from tidemill.store.erasing import erased_ids, keys_of, signed_by, with_keys
from tidemill.store.tables import kind_of

ANONYMOUS = "anonymous"
"""The author of what was said without a name; then the token by which it came may have one."""
_TAKEN: tuple[type[Record], ...] = (Prediction, Feedback, Annotation)


@dataclass(slots=True)
class Named:
    """The ids of what is erased.

    Attributes:
        predictions: with their inputs and answers, in the tables or aged into Parquet.
        feedback: pieces of it.
        annotations: labels that annotators gave.
        samples: ids of imported samples, ``smp_…``, and the same of their content where that differs.
        turns: what annotators did with questions.
        signed: records that stay but for their author's name, by kind.
        already: what was asked for and has been erased before.
    """

    predictions: set[str] = field(default_factory=set)
    feedback: set[str] = field(default_factory=set)
    annotations: set[str] = field(default_factory=set)
    samples: set[str] = field(default_factory=set)
    turns: set[str] = field(default_factory=set)
    signed: dict[type[Record], set[str]] = field(default_factory=dict)
    already: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, subjects: Iterable[str]) -> Named:
        """What the record of an erasure names; digests of samples are those of work that is done."""
        named = cls()
        for subject in subjects:
            if subject.startswith(SAMPLE):
                named.samples.add(subject)
            elif (kind := kind_of(subject)) is not None:
                named.add(kind, [subject])
        return named

    def add(self, kind: type[Record], identifiers: Iterable[str]) -> None:
        """Name records of a kind."""
        places = {Prediction: self.predictions, Feedback: self.feedback, Annotation: self.annotations, Turn: self.turns}
        (places[kind] if kind in places else self.signed.setdefault(kind, set())).update(identifiers)

    @property
    def subjects(self) -> tuple[str, ...]:
        """All ids, sorted."""
        parts = (self.predictions, self.feedback, self.annotations, self.samples, self.turns, *self.signed.values())
        return tuple(sorted(set().union(*parts)))

    @property
    def content(self) -> Keys:
        """The content keys of the samples."""
        return key_array(sample.removeprefix(SAMPLE) for sample in sorted(self.samples))


def named_by_author(store: Store, name: str) -> Named:
    """Everything that *name* said, by name or by a token called so, and the predictions that *name* asked for."""
    named = Named()
    for kind, identifiers in signed_by(store, name).items():
        named.add(kind, identifiers)
    named.feedback.update(store.ids(Feedback, author=ANONYMOUS, via=name))
    named.predictions.update(store.ids(Prediction, caller=name), aged.find(store.root, caller=name))
    return named


def named_by_ids(store: Store, identifiers: Iterable[str]) -> Named:
    """What has one of these ids.

    Raises:
        InputError: an id is of something that holds nothing of a person.
        NotFoundError: nothing has one of the ids.
    """
    named, erased = Named(), erased_ids(store)
    for identifier in dict.fromkeys(identifiers):
        if identifier.startswith(SAMPLE):
            _name_sample(store, named, identifier, erased)
            continue
        kind = kind_of(identifier)
        if kind not in _TAKEN:
            raise InputError(
                f"{identifier!r} is the id of nothing that a person gave",
                where="--id",
                mend="Give ids of predictions (pred_…), samples (smp_…), feedback (fb_…) or labels (label_…).",
            )
        if identifier in erased:
            named.already.add(identifier)
        elif kind is Prediction and aged.find(store.root, identifiers=[identifier]):
            named.add(kind, [identifier])
        else:
            store.get(kind, identifier)  # says what is near, where there is none
            named.add(kind, [identifier])
    return named


def name_samples(store: Store, named: Named, samples: Collection[str]) -> bool:
    """Name samples by their ids, with the predictions by which they came; whether a dataset version has any of them."""
    found = find_samples(store, key_array(sample.removeprefix(SAMPLE) for sample in samples))
    named.samples.update(samples, (f"{SAMPLE}{key_text(key)}" for key in found.content.tolist()))
    named.predictions |= found.live
    return bool(found.live) or len(found.content) > 0


def _name_sample(store: Store, named: Named, sample: str, erased: set[str]) -> None:
    known = store.count(Annotation, subject=sample) or store.count(QueueItem, subject=sample)
    if name_samples(store, named, [sample]) or known:
        return
    named.samples.discard(sample)
    if sample in erased or digest_of(store.secret, sample) in erased:
        named.already.add(sample)
    else:
        raise NotFoundError(
            f"no dataset version holds the sample {sample}", where="--id", mend="List samples with `tidemill label`."
        )


def name_what_was_said(store: Store, named: Named) -> None:
    """Add the statements about what is named, whoever made them, unless they were erased before.

    Of an episode, what names other predictions too is left to those who said it.
    """
    joined = {m.subject for m in store.find(Member, prediction=named.predictions)}
    pairs = {subject for subject in joined if subject.startswith(PAIR)}
    episodes = store.find(Feedback, subject=joined - pairs)
    said: dict[type[Record], Collection[str]] = {
        Feedback: [
            *store.ids(Feedback, subject=named.predictions | pairs),
            *(f.id for f in episodes if f.predictions and named.predictions.issuperset(f.predictions)),
        ],
        Annotation: store.ids(Annotation, subject=named.predictions | named.samples),
    }
    erased = erased_ids(store)
    for kind, identifiers in said.items():
        named.add(kind, set(identifiers) - erased)


def elsewhere(store: Store, named: Named) -> Named:
    """What else holds the same content: predictions of the same key, and imported samples."""
    keys = {*keys_of(store, named.predictions).values(), *aged.find(store.root, identifiers=named.predictions).values()}
    keys |= {key_text(key) for key in named.content.tolist()}
    keys.discard("")
    found = Named()
    found.predictions.update(with_keys(store, keys), aged.find(store.root, keys=keys))
    found.predictions -= named.predictions
    found.samples = samples_of_content(store, key_array(sorted(keys))) - named.samples
    return found

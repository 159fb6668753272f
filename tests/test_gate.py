"""The gate refuses what it should, promotes what it should, and says why."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.errors import InputError
from tidemill.gate import Costs, Judged, Policy, Verdict, judge, level, replay
from tidemill.metrics import row_scores

Floats = npt.NDArray[np.float64]
POLICY = Policy()


def answers(rng: np.random.Generator, n: int, accuracy: float) -> Floats:
    """Per-row scores of a model that is right with this probability."""
    return (rng.random(n) < accuracy).astype(np.float64)


def corrected(scores: Floats, rng: np.random.Generator, gains: float, losses: float = 0.0) -> Floats:
    """A model that puts this share of the wrong answers right, and gets this share of the right ones wrong."""
    draw = rng.random(len(scores))
    return np.where(scores == 0, draw < gains, draw >= losses).astype(np.float64)


def judged(challenger: Floats, champion: Floats | None, split: str = "reference", **more: object) -> Judged:
    keys = np.arange(len(challenger), dtype=np.uint64)
    return Judged(split=split, keys=keys, challenger=challenger, champion=champion, **more)  # type: ignore[arg-type]


def check(verdict: Verdict, outcome: str) -> Verdict:
    """The outcome is as said, the reason is one sentence, and JSON evidence replays to the very same verdict."""
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.reason.endswith(".") and "\n" not in verdict.reason
    assert replay(json.loads(json.dumps(verdict.evidence))) == verdict
    return verdict


def failed(verdict: Verdict) -> list[str]:
    return [c["name"] for c in verdict.evidence["checks"] if not c["passed"]]


def test_logs_that_cannot_support_the_claim_refuse_it_unseen_and_for_nothing(rng: np.random.Generator) -> None:
    """Of logged choices: whatever the scores say, too few choices of the challenger's own are no evidence."""
    scores = rng.random(500)
    few = {"rows": 500, "effective": 12.0, "mean": 1.0, "mean_high": 1.1, "largest": 50.0, "heaviest": 0.6}
    verdict = check(judge(judged(scores + 0.5, scores, support=few), None, POLICY, metric="reward"), "refused")
    assert failed(verdict) == ["support"] and verdict.spends == 0.0
    assert "are worth 12 of the challenger's own, and 50 are needed" in verdict.reason
    assert "champion" not in verdict.evidence["sets"]["reference"]
    never = {**few, "effective": 400.0, "mean": 0.3, "mean_high": 0.4}
    verdict = check(judge(judged(scores + 0.5, scores, support=never), None, POLICY, metric="reward"), "refused")
    assert "almost never chose what the challenger would" in verdict.reason
    enough = {**few, "effective": 300.0}
    check(judge(judged(scores + 0.5, scores, support=enough), None, POLICY, metric="reward"), "promoted")


def test_promotes_what_is_clearly_better(rng: np.random.Generator) -> None:
    champion = answers(rng, 500, 0.9)
    verdict = check(judge(judged(corrected(champion, rng, 0.7), champion), None, POLICY), "promoted")
    assert verdict.spends == pytest.approx(0.005) and verdict.becomes_anchor
    assert "points" in verdict.reason and "500 rows" in verdict.reason


def test_refuses_flipped_labels(rng: np.random.Generator) -> None:
    champion = answers(rng, 360, 0.95)
    verdict = check(judge(judged(answers(rng, 360, 0.1), champion), None, POLICY), "refused")
    assert "clear evidence of a loss" in verdict.reason
    assert verdict.spends > 0 and not verdict.becomes_anchor


def test_refuses_an_advantage_that_is_noise() -> None:
    champion = np.ones(400)
    champion[:12] = 0
    challenger = np.ones(400)
    challenger[8:17] = 0  # 8 wins against 5 losses: +0.75 points
    verdict = check(judge(judged(challenger, champion), None, POLICY), "refused")
    assert failed(verdict) == ["claim"] and "p = 0.29" in verdict.reason


def test_type_one_error_over_a_whole_generation() -> None:
    """Ten judgements of equally good models within one generation promote less often than α."""
    rng, promoted, generations = np.random.default_rng(5), 0, 100
    for _ in range(generations):
        spent, champion = 0.0, answers(rng, 300, 0.85)
        lucky = False
        for _ in range(10):
            verdict = judge(judged(corrected(champion, rng, 0.34, 0.06), champion), None, POLICY, spent=spent)
            spent += verdict.spends
            lucky |= verdict.outcome == "promoted"
        promoted += lucky
        assert spent < POLICY.alpha
    assert promoted <= 0.05 * generations + 2 * np.sqrt(0.05 * 0.95 * generations)


def test_power_for_a_real_gain() -> None:
    rng, promoted = np.random.default_rng(6), 0
    for _ in range(50):
        champion = answers(rng, 600, 0.85)
        promoted += judge(judged(corrected(champion, rng, 0.4, 0.01), champion), None, POLICY).outcome == "promoted"
    assert promoted >= 45


def test_alpha_is_a_share_of_what_is_left_and_never_runs_over() -> None:
    spent, levels = 0.0, []
    for _ in range(500):
        levels.append(level(POLICY, spent))
        spent += levels[-1]
    assert levels == sorted(levels, reverse=True) and levels[-1] > 0
    assert spent < POLICY.alpha
    assert level(POLICY, 1.0) == 0.0


def test_a_slice_blocks_on_evidence_of_loss(rng: np.random.Generator) -> None:
    champion = answers(rng, 2000, 0.8)
    rare = np.arange(2000) < 150
    challenger = np.where(rare, 0.0, corrected(champion, rng, 0.6))
    both = judged(challenger, champion, slices={"city=Ghent": rare, "city=Bruges": ~rare})
    verdict = check(judge(both, None, POLICY), "refused")
    assert failed(verdict) == ["slices"] and "city=Ghent" in verdict.reason and "150 rows" in verdict.reason
    without = dataclasses.replace(both, slices={"city=Bruges": ~rare})
    check(judge(without, None, POLICY), "promoted")


def test_a_slice_too_small_to_tell_is_reported_not_judged(rng: np.random.Generator) -> None:
    champion = answers(rng, 1000, 0.8)
    tiny = np.arange(1000) < 20
    challenger = np.where(tiny, 0.0, corrected(champion, rng, 0.6))
    verdict = check(judge(judged(challenger, champion, slices={"tiny": tiny}), None, POLICY), "promoted")
    (part,) = verdict.evidence["slices"]
    assert part["status"] == "not judged" and part["p_adjusted"] is None and part["difference"] < -0.5


def test_many_noisy_slices_do_not_block(rng: np.random.Generator) -> None:
    """Unadjusted, some of 80 slices would look harmed by chance nearly always; Holm keeps that under α."""
    blocked = 0
    for _ in range(25):
        champion = answers(rng, 4000, 0.8)
        challenger = corrected(champion, rng, 0.3, 0.03)
        slices = {str(i): np.arange(4000) % 80 == i for i in range(80)}
        policy = Policy(slice_margin=0.0, min_slice=30)
        blocked += "slices" in failed(judge(judged(challenger, champion, slices=slices), None, policy))
    assert blocked <= 3


def test_recent_carries_the_claim_once_it_is_large_enough(rng: np.random.Generator) -> None:
    champion, old = answers(rng, 400, 0.7), answers(rng, 400, 0.97)
    better = judged(corrected(champion, rng, 0.6), champion, "recent-test", response_rate=0.9)
    verdict = check(judge(judged(old, old), better, POLICY), "promoted")
    assert verdict.evidence["claim"] == "recent-test"
    few = dataclasses.replace(better, keys=better.keys[:50], challenger=better.challenger[:50],
                              champion=champion[:50])  # fmt: skip
    verdict = check(judge(judged(old, old), few, POLICY), "refused")
    assert verdict.evidence["claim"] == "reference"


def test_weights_count_by_their_effective_number(rng: np.random.Generator) -> None:
    n = 300
    champion = answers(rng, n, 0.7)
    weights = np.where(np.arange(n) < 5, 100.0, 1.0)  # five rows outweigh all others
    heavy = judged(corrected(champion, rng, 0.9), champion, "recent-test", weights=weights)
    verdict = check(judge(judged(champion, champion), heavy, POLICY), "refused")
    assert verdict.evidence["claim"] == "reference"
    assert verdict.evidence["sets"]["recent-test"]["effective"] < 15


def test_a_loss_on_the_other_set_blocks(rng: np.random.Generator) -> None:
    live, old = answers(rng, 600, 0.7), answers(rng, 400, 0.97)
    recent = judged(corrected(live, rng, 0.6), live, "recent-test", response_rate=1.0)
    verdict = check(judge(judged(corrected(old, rng, 0.0, 0.05), old), recent, POLICY), "refused")
    assert failed(verdict) == ["other"] and "On reference" in verdict.reason
    # Too small to prove anything, it blocks only on evidence of harm.
    small = judged(np.append(np.ones(29), 0), np.ones(30))
    check(judge(small, recent, POLICY), "promoted")
    check(judge(judged(np.zeros(30), np.ones(30)), recent, POLICY), "refused")


def test_a_low_response_rate_refuses_the_claim_unseen(rng: np.random.Generator) -> None:
    champion = answers(rng, 400, 0.7)
    silent = judged(corrected(champion, rng, 0.9), champion, "recent-test", response_rate=0.3, left_out=0.2)
    verdict = check(judge(judged(champion, champion), silent, POLICY), "refused")
    assert "30%" in verdict.reason and verdict.spends == 0
    facts = verdict.evidence["sets"]["recent-test"]
    assert "champion" not in facts and "20%" in facts["estimand"]


def test_volunteered_corrections_would_mislead_and_the_audit_does_not() -> None:
    """Two equally good models: on the champion's corrected errors the other wins, on audited traffic neither does."""
    rng = np.random.default_rng(8)
    champion, challenger = answers(rng, 20_000, 0.9), answers(rng, 20_000, 0.9)
    volunteered = np.flatnonzero(champion == 0)
    misled = judge(judged(challenger[volunteered], champion[volunteered], "corrections"), None, POLICY)
    assert misled.outcome == "promoted"  # which is why such rows never reach the gate
    audited = np.flatnonzero(rng.random(20_000) < 0.05)
    honest = judged(challenger[audited], champion[audited], "recent-test", response_rate=1.0)
    check(judge(None, honest, POLICY), "refused")


def test_no_worse_and_smaller_is_enough_if_size_is_the_goal(rng: np.random.Generator) -> None:
    champion = answers(rng, 5000, 0.95)
    same = champion.copy()
    same[np.flatnonzero(champion == 1)[:5]] = 0
    big, small = Costs(latency_ms=1.0, size_bytes=2_000_000), Costs(latency_ms=1.0, size_bytes=400_000)
    both = judged(same, champion)
    by_size = Policy(goal="size")
    check(judge(both, None, POLICY, champion_costs=big, challenger_costs=small), "refused")
    verdict = check(judge(both, None, by_size, champion_costs=big, challenger_costs=small), "promoted")
    assert not verdict.becomes_anchor and verdict.margin_used == pytest.approx(0.001)
    check(judge(both, None, by_size, champion_costs=small, challenger_costs=big), "refused")
    unmeasured = check(judge(both, None, by_size), "refused")
    assert "not measured" in unmeasured.reason


@pytest.mark.parametrize("stored", [False, True], ids=["anchor scores", "stored margin"])
def test_small_losses_cannot_add_up(stored: bool) -> None:
    """Each step loses 0.3 points, inside the margin of 1; the margin counts from the last superiority winner."""
    n, step = 20_000, 60
    winner = np.ones(n)
    small, used, outcomes = Costs(latency_ms=1.0, size_bytes=10), 0.0, []
    champion = winner
    for round_ in range(1, 6):
        challenger = np.ones(n)
        challenger[: round_ * step] = 0
        both = judged(challenger, champion, anchor=None if stored or champion is winner else winner)
        verdict = judge(both, None, Policy(goal="size"), margin_used=used if stored else 0.0,
                        champion_costs=Costs(latency_ms=1.0, size_bytes=20), challenger_costs=small)  # fmt: skip
        outcomes.append(check(verdict, verdict.outcome).outcome)
        if verdict.outcome == "promoted":
            champion, used = challenger, verdict.margin_used
    assert outcomes[:2] == ["promoted", "promoted"]
    assert outcomes[-2:] == ["refused", "refused"]
    assert winner.mean() - champion.mean() <= POLICY.margin


def test_a_deep_model_must_hold_against_the_baseline(rng: np.random.Generator) -> None:
    champion = answers(rng, 500, 0.7)
    challenger = corrected(champion, rng, 0.6)
    baseline = corrected(challenger, rng, 0.5)
    verdict = check(judge(judged(challenger, champion, baseline=baseline), None, POLICY), "refused")
    assert failed(verdict) == ["baseline"] and "best baseline" in verdict.reason
    check(judge(judged(challenger, champion, baseline=champion), None, POLICY), "promoted")


def test_first_deployment_must_beat_the_most_frequent_answer(rng: np.random.Generator) -> None:
    prior, good = answers(rng, 100, 0.4), answers(rng, 100, 0.9)
    verdict = check(judge(judged(good, None, prior=prior), None, POLICY), "promoted")
    assert "most frequent answer" in verdict.reason and verdict.spends == 0 and verdict.becomes_anchor
    verdict = check(judge(judged(answers(rng, 100, 0.42), None, prior=prior), None, POLICY), "refused")
    assert "most frequent answer" in verdict.reason
    with pytest.raises(InputError, match="neither champion nor prior"):
        judge(judged(good, None), None, POLICY)


def test_nothing_to_judge_is_refused() -> None:
    check(judge(None, None, POLICY), "refused")
    none = np.zeros(0)
    assert "no labelled test rows" in check(judge(judged(none, none), None, POLICY), "refused").reason


def test_rows_of_one_key_are_one_draw() -> None:
    """Forty copies of five pictures are five answers, not two hundred."""
    challenger, champion = np.ones(200), np.zeros(200)
    many = judged(challenger, champion)
    check(judge(many, None, POLICY), "promoted")
    few = dataclasses.replace(many, keys=np.repeat(np.arange(5, dtype=np.uint64), 40))
    verdict = check(judge(few, None, POLICY), "refused")
    assert verdict.evidence["sets"]["reference"]["effective"] == pytest.approx(5)


def test_graded_scores_are_judged_too(rng: np.random.Generator) -> None:
    y = rng.integers(0, 2, 800)
    sure = np.clip(0.5 + (2 * y - 1) * rng.normal(0.35, 0.15, 800), 0.02, 0.98)
    vague = 0.5 + (sure - 0.5) * 0.3
    a, b = (row_scores("log_loss", y, np.stack([1 - p, p], axis=1)) for p in (sure, vague))
    verdict = check(judge(judged(a, b), None, POLICY, metric="log_loss"), "promoted")
    assert "log-loss" in verdict.reason
    check(judge(judged(b, a), None, POLICY, metric="log_loss"), "refused")


def test_replay_refuses_what_it_cannot_read() -> None:
    verdict = judge(judged(np.ones(9), np.ones(9)), None, POLICY)
    with pytest.raises(InputError, match="schema 7"):
        replay({**verdict.evidence, "schema": 7})
    with pytest.raises(InputError, match="not whole"):
        replay({k: v for k, v in verdict.evidence.items() if k != "level"})


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)

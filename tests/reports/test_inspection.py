"""What `advcli inspect` says of a preprocessing: to paste, or beside the one that was stated."""

from __future__ import annotations

from typing import Any

import pytest

from advcli.reports.inspection import render


def candidate(flag: str, accuracy: float, excluded: str = "") -> dict[str, Any]:
    return {
        "name": flag,
        "flag": flag,
        "accuracy": accuracy,
        "images": 40,
        "ci95": [accuracy - 0.1, accuracy],
        "batchnorm_kl": None,
        "excluded_because": excluded,
    }


def facts(**more: Any) -> dict[str, Any]:
    chosen = {
        "flag": "unit",
        "name": "unit",
        "reason": "",
        "suspect": True,
        "at_chance": False,
        "doubt": "'unit' was chosen, but the images do not exclude raw",
        "candidates": [
            candidate("unit", 0.9),
            candidate("raw", 0.9),
            candidate("caffe", 0.5, "less accurate than unit"),
        ],
    }
    model = {
        "path": "m.h5",
        "sha256": "0" * 64,
        "format": "h5",
        "keras_version": "2.4.0",
        "optimizer_steps": 7,
        "layers": 3,
        "parameters": 10,
    }
    images = {
        "root": "images",
        "count": 40,
        "labels": "folder",
        "classes": ["a", "b"],
        "skipped": [],
        "notes": [],
        "sampled": 40,
        "preprocessing": chosen,
    }
    return {
        "model": model,
        "safety": {"runs_code": []},
        "rules": [],
        "input": {"shape": [8, 8, 1], "layout": "channels-last"},
        "head": {"ending": "softmax", "output": "dense", "classes": 2},
        "images": images,
    } | more


def test_what_is_left_is_to_be_looked_up() -> None:
    text = render(facts())
    assert "if its training code says so: --preprocess unit" in text
    assert "suspect  'unit' was chosen, but the images do not exclude raw" in text


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("raw", "the images do not exclude --preprocess raw"),
        ("caffe", "speak against --preprocess caffe: less accurate than unit"),
        ("scale=3", "the images were not asked about --preprocess scale=3"),
    ],
)
def test_what_was_stated_is_not_asked_for_again(flag: str, said: str) -> None:
    text = render(facts(stated={"flag": flag, "by": "--preprocess"}))
    assert said in text
    assert "was chosen" not in text
    assert "training code" not in text

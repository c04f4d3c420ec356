"""Multiplying the logits by 60 changes no decision: no full-strength preset may be fooled."""

from __future__ import annotations

import pytest

from advcli.audit.plan import AuditConfig
from advcli.audit.run import execute

from .support import SAMPLES, Watcher


@pytest.mark.parametrize("preset", [pytest.param("autoattack", marks=pytest.mark.slow), "audit"])
def test_the_same_is_found_on_the_masked_twin(preset: str) -> None:
    robust = []
    for model in ("cnn.h5", "masked.h5"):
        config = AuditConfig(
            command="evaluate",
            model=str(SAMPLES / model),
            images=str(SAMPLES / "images"),
            preset=preset,
            eps=(0.08,),
            preprocess="unit",
            limit=12,
        )
        summary = execute(config, Watcher()).summary
        (worst,) = summary["worst_case"]
        robust.append(worst["robust_accuracy"])
    original, masked = robust
    assert masked == original  # of 12 images: closer than half a point
    assert 0 < original < 0.9

"""Every attack in every mode with both endings: no leak, no foreign change, no half record."""

from __future__ import annotations

import pytest

from attack.attacks import ATTACKS, Attack
from attack.scene import Scene

CASES = [
    pytest.param(attack, mode, id=f"{attack.id} {attack.name} {mode}")
    for attack in ATTACKS
    for mode in attack.modes
]


@pytest.mark.parametrize(("attack", "mode"), CASES)
def test_an_attack_gets_nothing(scene: Scene, attack: Attack, mode: str) -> None:
    assert scene.strike(attack, mode) == []

import pytest

from advcli.audit.plan import (
    CURVE_ATTACKS,
    AuditConfig,
    Phase,
    budget_notes,
    draft_phases,
    merge,
    parse_target,
    pick_target,
    resolve,
)
from advcli.audit.presets import PRESETS, parse_preset, preset_remark
from advcli.errors import UsageError


def config(command: str = "evaluate", **more: object) -> AuditConfig:
    return AuditConfig.model_validate({"command": command, "model": "m", "images": "i"} | more)


def described(phases: tuple[Phase, ...]) -> list[tuple[str, str, tuple[float, ...], bool]]:
    return [(p.spec, p.norm, p.eps, p.cascade) for p in phases]


def test_evaluate_runs_the_audit_cascade() -> None:
    assert described(draft_phases(config())) == [
        ("race", "linf", (8 / 255,), True),
        ("square:steps=100", "linf", (8 / 255,), True),
    ]


def test_an_l0_attack_among_others_is_named_where_the_eps_is_not_its_own() -> None:
    with pytest.raises(UsageError, match="which 'sigma-zero'") as caught:
        draft_phases(config(attacks=("pgd", "sigma-zero"), eps=(0.1,)))
    assert "-a sigma-zero:eps=" in caught.value.hint


def test_what_audit_leaves_out_is_said_for_each_of_its_norms() -> None:
    attacks, remarks = PRESETS["audit"].versions[""], PRESETS["audit"].remarks
    assert remarks.keys() == attacks.keys()
    known = PRESETS["autoattack"].versions["full"]
    assert {norm for norm in remarks if "autoattack:version=full" in remarks[norm]} == known.keys()


def test_the_shortened_protocol_says_that_it_is_and_the_others_do_not() -> None:
    assert "version=full" in str(preset_remark("autoattack", None))
    assert preset_remark("autoattack:version=standard", "l1") == preset_remark("autoattack", "l1")
    assert preset_remark("autoattack:version=full", None) is None
    assert preset_remark("autoattack:version=plus", None) is None


def test_quick_in_l2_takes_the_l2_step() -> None:
    phases = draft_phases(config(norm="l2", preset="quick"))
    assert [p.spec for p in phases] == ["noise", "fgm", "pgd"]
    assert all(p.eps == () for p in phases)
    assert resolve(phases, (32, 32, 3))[0].eps == (0.5,)


def test_the_protocol_of_record_has_no_l0_form() -> None:
    with pytest.raises(UsageError, match="no l0 form") as caught:
        draft_phases(config(norm="l0", preset="autoattack", eps=(3.0,)))
    assert "linf, l2, l1" in caught.value.hint


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_autoattack_is_the_protocol_of_record(norm: str) -> None:
    """fra31/auto-attack, set_version: order, iterations, restarts, targets, queries."""
    whole = draft_phases(config(norm=norm, preset="autoattack:version=full"))
    assert all(p.cascade and p.norm == norm for p in whole)
    settings = [(p.attack.name, p.attack.model_dump()) for p in whole]
    assert [name for name, _ in settings] == ["apgd", "apgd-t", "fab-t", "square"]
    one, two, three, four = (found for _, found in settings)
    l1 = norm == "l1"
    assert (one["loss"], one["steps"], one["restarts"], one["eot"]) == (
        "ce",
        100,
        5 if l1 else 1,
        1,
    )
    assert one["scouts"] == 0
    assert (two["steps"], two["targets"], two["restarts"]) == (100, 5 if l1 else 9, 1)
    assert (three["iterations"], three["targets"], three["restarts"]) == (100, 9, 1)
    assert (four["steps"], four["p_init"], four["restarts"]) == (5000, 0.8, 1)
    assert four["rescale_schedule"] is False
    assert not any(found.get("give_up") or found.get("patience") for _, found in settings)
    paced = draft_phases(config(norm=norm, preset="autoattack"))
    for phase, (name, found) in zip(paced, settings, strict=True):
        change = {"patience": 20} if name == "fab-t" else {"give_up": True}
        assert phase.attack.model_dump() == found | change
    plus = draft_phases(config(norm=norm, preset="autoattack:version=plus"))
    assert [p.spec for p in plus] == [
        "apgd:restarts=5,scouts=0",
        "apgd:loss=dlr,restarts=5,scouts=0",
        "fab:restarts=5",
        "square",
        "apgd-t",
        "fab-t",
    ]
    rand = draft_phases(config(norm=norm, preset="autoattack:version=rand"))
    assert [p.spec for p in rand] == ["apgd:eot=20,scouts=0", "apgd:eot=20,loss=dlr,scouts=0"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_run(name: str) -> None:
    for version, norms in PRESETS[name].versions.items():
        asked = f"{name}:version={version}" if version else name
        for norm in norms:
            eps = (3.0,) if norm == "l0" else ()
            phases = draft_phases(config(norm=norm, preset=asked, eps=eps))
            assert len(phases) == len(norms[norm])


@pytest.mark.parametrize("norm", CURVE_ATTACKS)
def test_a_curve_alone_runs_a_minimum_norm_attack(norm: str) -> None:
    eps = (3.0,) if norm == "l0" else ()
    (only,) = draft_phases(config(norm=norm, curve=True, eps=eps))
    assert only.minimum
    assert only.norm == norm


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ("autoatack", "unknown preset", "did you mean 'autoattack'"),
        ("autoattack:version=fast", "is no option", "version=standard|full|plus|rand"),
        ("autoattack:restarts=3", "is no option", "version=standard|full|plus|rand"),
        ("quick:version=", "is no option", "--preset quick"),
    ],
)
def test_what_is_no_preset(asked: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_preset(asked)
    assert hint in caught.value.hint


@pytest.mark.parametrize("spec", ["audit", " AutoAttack:version=full"])
def test_a_preset_is_no_attack(spec: str) -> None:
    with pytest.raises(UsageError, match="is a preset of attacks") as caught:
        draft_phases(config(attacks=("pgd", spec)))
    assert caught.value.hint == f"write --preset {spec.strip().lower().partition(':')[0]}"


def test_attack_runs_pgd() -> None:
    assert described(draft_phases(config("attack"))) == [("pgd", "linf", (8 / 255,), False)]


def test_a_preset_and_attacks_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude"):
        draft_phases(config(preset="quick", attacks=("pgd",)))


def test_one_phase_per_attack_and_norm() -> None:
    asked = ("pgd:eps=8/255", "pgd:eps=2/255", "pgd", "pgd:steps=40", "pgd:norm=l2,eps=1")
    phases = draft_phases(config(attacks=asked))
    assert described(phases) == [
        ("pgd", "linf", (2 / 255, 8 / 255), False),
        ("pgd", "l2", (1.0,), False),
    ]


def test_an_attacks_own_eps_wins() -> None:
    phases = draft_phases(config(attacks=("pgd:eps=1/255", "fgsm"), eps=(0.5,)))
    assert [p.eps for p in phases] == [(1 / 255,), (0.5,)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attacks": ("pgd",), "eps": (8.0,)}, "exceeds 1"),
        ({"attacks": ("pdg",)}, "unknown attack"),
        ({"attacks": ("pgd:step=3",)}, "no option"),
        ({"attacks": ("fgsm",), "norm": "l2"}, "no l2 form"),
        ({"attacks": ("cw:eps=1",)}, "takes no eps"),
    ],
)
def test_what_a_command_line_gets_wrong(more: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        draft_phases(config(**more))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_budget_below_one_level_is_refused_for_8_bit_images(norm: str) -> None:
    for asked in ({"attacks": ("pgd",), "eps": (0.0039,)}, {"attacks": ("pgd:eps=0.9/255",)}):
        with pytest.raises(
            UsageError, match=r"no 8-bit image differs .* less than 1/255"
        ) as caught:
            draft_phases(config(norm=norm, **asked))
        assert "--pixels float" in caught.value.hint
        draft_phases(config(norm=norm, pixels="float", **asked))
    draft_phases(config(norm=norm, attacks=("pgd",), eps=(1 / 255, 0.004)))
    draft_phases(config(norm=norm, attacks=("pgd",), eps=(0.00392157,)))


def test_budgets_that_need_a_word() -> None:
    def notes(**more: object) -> list[str]:
        asked = config(**more)
        return budget_notes(asked, draft_phases(asked))

    (note,) = notes(eps=(0.03,))  # three attacks, one budget
    assert note.startswith("linf 0.03 allows 7 of 255 levels, not 7.65: ")
    (note,) = notes(eps=(0.03, 8 / 255, 0.1))
    assert note.startswith("linf 0.03, 0.1 allow 7, 25 of 255 levels, not 7.65, 25.5: ")
    assert notes(eps=(0.03,), pixels="float") == []
    assert notes(eps=(0.03,), norm="l2") == []
    assert notes(eps=(8 / 255, 1 / 255, 0.03137255)) == []
    (note,) = notes(attacks=("pgd", "pgd:norm=l2"), eps=(8 / 255,))
    assert "another size in each of l2, linf" in note


def test_phases_survive_run_json() -> None:
    for phase in draft_phases(config(attacks=("pgd:steps=7,norm=l1,eps=3", "cw"))):
        stored = phase.as_dict()
        assert Phase.from_dict(stored) == phase


def test_merge_knows_an_eps_however_written() -> None:
    phases = draft_phases(config(attacks=("pgd:eps=8/255", "pgd:eps=0.0313725490")))
    assert len(merge(phases)[0].eps) == 1


def test_targets() -> None:
    names = ("cat", "dog", "0")
    assert parse_target("dog", names, 3) == 1
    assert parse_target("0", names, 3) == 2  # a name goes before an index
    assert parse_target("2", names, 3) == 2
    assert parse_target("next", names, 3) == "next"
    with pytest.raises(UsageError, match="no such class"):
        parse_target("3", names, 3)
    assert pick_target("next", 2, [0.0, 0.0, 1.0]) == 0
    assert pick_target("least-likely", 2, [0.1, -3.0, 1.0]) == 1
    assert pick_target(2, 1, [0.0, 0.0, 0.0]) == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"attacks": ("universal",)},
        {"attacks": ("pgd", "corruption")},
        {"attacks": ("blur",)},
        {"preset": "natural"},
    ],
)
def test_what_no_surrogate_can_craft(asked: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="takes no surrogate"):
        draft_phases(config(surrogate="s.h5", **asked))
    draft_phases(config(**asked))
    assert draft_phases(config(surrogate="s.h5", attacks=("pgd",)))

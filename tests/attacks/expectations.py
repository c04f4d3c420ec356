"""What the contract suite expects of each attack: one entry per registered name.

A new attack adds its entry here; `test_contract.py` and `test_identity.py` do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expected:
    """`fast`: a spec that is still as strong as the bounds below, where the default takes minutes.

    `tiny`: a spec for tests that only compare two runs of the same. `bounds`: minimum-norm, per
    norm (median, 95th percentile) of distance / optimum (L0: of the pixels beyond it) on
    linear models at the default settings (`fast` for attacks without gradients), and the forwards
    that it may take. `decides`: a budget
    attack with gradients that finds every image within 0.98 eps of a linear model, for so many
    classes.
    """

    fast: str = ""
    tiny: str = ""
    bounds: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    # the bounds hold where the box does not bind
    ignores_box: bool = False
    decides: tuple[int, ...] = ()
    # budget attacks on scores alone, `fast`: of the images of a linear model that lie within this
    # share of eps, at least so many are found
    finds: dict[str, tuple[float, float]] = field(default_factory=dict)


EXPECTED: dict[str, Expected] = {
    "noise": Expected(tiny="noise:repeats=4"),
    "random-search": Expected(fast="random-search:steps=400", tiny="random-search:steps=25"),
    "square": Expected(
        fast="square:steps=700",
        tiny="square:steps=25",
        finds={"linf": (0.9, 0.95), "l2": (0.7, 0.9), "l1": (0.7, 0.9)},
    ),
    "nes": Expected(
        fast="nes:steps=12",
        tiny="nes:steps=3,samples=16",
        finds={"linf": (0.7, 0.9), "l2": (0.7, 0.9)},
    ),
    "spsa": Expected(
        fast="spsa:steps=8",
        tiny="spsa:steps=3,samples=16",
        finds={"linf": (0.9, 0.9), "l2": (0.9, 0.9)},
    ),
    "simba": Expected(
        fast="simba:steps=1000",
        tiny="simba:steps=25",
        finds={"linf": (0.9, 0.95), "l2": (0.8, 0.9)},
    ),
    "one-pixel": Expected(
        fast="one-pixel:population=64,generations=20", tiny="one-pixel:population=16,generations=3"
    ),
    "sparse-rs": Expected(fast="sparse-rs:steps=600", tiny="sparse-rs:steps=25"),
    "fgsm": Expected(),
    "fgm": Expected(),
    "bim": Expected(decides=(2, 3, 10)),
    "pgd": Expected(tiny="pgd:steps=8,restarts=2", decides=(2, 3, 10)),
    "apgd": Expected(tiny="apgd:steps=8,restarts=2,eot=2", decides=(2, 3, 10)),
    "apgd-t": Expected(tiny="apgd-t:steps=8,targets=2,restarts=2", decides=(2, 3, 10)),
    "pma": Expected(
        fast="pma:steps=40,restarts=1", tiny="pma:steps=8,scouts=0", decides=(2, 3, 10)
    ),
    "malt": Expected(fast="malt:steps=40", tiny="malt:steps=8,targets=2", decides=(2, 3, 10)),
    "race": Expected(tiny="race:targets=2,steps=10", decides=(2, 3, 10)),
    "mifgsm": Expected(
        tiny="mifgsm:steps=4,nesterov=true,input-diversity=0.5,translation=3,scale=2,scouts=2",
        decides=(2, 3, 10),
    ),
    "cw": Expected(
        fast="cw:steps=300,searches=7",
        tiny="cw:steps=20,searches=2",
        bounds={"l2": (1.02, 1.10, 9000), "linf": (1.02, 1.10, 3000)},
    ),
    "ead": Expected(
        fast="ead:steps=300,searches=5",
        tiny="ead:steps=20,searches=2",
        bounds={"l1": (1.02, 1.10, 9010)},
    ),
    "deepfool": Expected(bounds=dict.fromkeys(("l2", "linf"), (1.02, 1.10, 40)), ignores_box=True),
    "fab": Expected(
        fast="fab:iterations=30",
        tiny="fab:iterations=4,classes=2,restarts=2",
        bounds=dict.fromkeys(("linf", "l2", "l1"), (1.02, 1.10, 1010)),
    ),
    "fab-t": Expected(
        fast="fab-t:iterations=30",
        tiny="fab-t:iterations=4,targets=2,restarts=2",
        bounds=dict.fromkeys(("linf", "l2", "l1"), (1.02, 1.10, 1810)),
    ),
    "fmn": Expected(
        fast="fmn:steps=40",
        tiny="fmn:steps=12",
        bounds={
            **dict.fromkeys(("linf", "l2", "l1"), (1.02, 1.10, 102)),
            "l0": (0, 1, 102),
        },
    ),
    "ddn": Expected(fast="ddn:steps=40", tiny="ddn:steps=12", bounds={"l2": (1.02, 1.10, 102)}),
    "pdpgd": Expected(
        fast="pdpgd:steps=60",
        tiny="pdpgd:steps=12",
        bounds=dict.fromkeys(("l1", "linf", "l2"), (1.02, 1.10, 502)),
    ),
    "sigma-zero": Expected(
        fast="sigma-zero:steps=60", tiny="sigma-zero:steps=12", bounds={"l0": (0, 1, 502)}
    ),
    "hopskipjump": Expected(
        fast="hopskipjump:iterations=12",
        tiny="hopskipjump:iterations=2,initial-queries=64",
        bounds={"l2": (1.05, 2.0, 3600), "linf": (1.10, 2.0, 3600)},
    ),
    "surfree": Expected(
        fast="surfree:queries=1500,frequencies=1",
        tiny="surfree:queries=150",
        bounds={"l2": (1.02, 1.6, 1500)},
    ),
    "boundary": Expected(
        fast="boundary:queries=1500",
        tiny="boundary:queries=150",
        bounds={"l2": (1.1, 1.5, 1502)},
    ),
    "cgba": Expected(
        fast="cgba:queries=1500,factor=1",
        tiny="cgba:queries=150",
        bounds={"l2": (1.1, 2.0, 1502)},
    ),
}

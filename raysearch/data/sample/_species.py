"""Six animals by shape and coat. Lengths are in units of the body, from hip to shoulder."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Species:
    """How an animal looks; its colours overlap with those of its neighbours on purpose.

    Attributes:
        hip, waist, chest: radii along the body. slope: how far the hip is below the shoulder.
        leg: length below the body. limb: thickness of the legs.
        neck: length. head: radius. muzzle: length. ear: height. pointed: ears are triangles.
        tail: length. tail_width: radii at root, middle and tip.
        mane: radius of a mane around the head, 0 for none.
        hue: 0..180, saturation and value: 0..255, as ranges. belly: how much lighter below.
        pattern: "spots", "blotches", "stripes" or "plain".
        dark_legs, tip: brightness of the feet and of the tail's tip, 1 for unchanged.
    """

    hip: float
    waist: float
    chest: float
    slope: float
    leg: float
    limb: float
    neck: float
    head: float
    muzzle: float
    ear: float
    pointed: bool
    tail: float
    tail_width: tuple[float, float, float]
    mane: float
    hue: Range
    saturation: Range
    value: Range
    belly: float
    pattern: str
    dark_legs: float
    tip: float


SPECIES = {
    "cheetah": Species(
        hip=0.19,
        waist=0.15,
        chest=0.21,
        slope=0.0,
        leg=0.62,
        limb=0.8,
        neck=0.22,
        head=0.13,
        muzzle=0.1,
        ear=0.07,
        pointed=False,
        tail=0.85,
        tail_width=(0.05, 0.045, 0.05),
        mane=0.0,
        hue=(15, 22),
        saturation=(80, 150),
        value=(160, 225),
        belly=0.2,
        pattern="spots",
        dark_legs=1.0,
        tip=0.45,
    ),
    "lion": Species(
        hip=0.22,
        waist=0.2,
        chest=0.26,
        slope=-0.02,
        leg=0.5,
        limb=1.15,
        neck=0.18,
        head=0.19,
        muzzle=0.15,
        ear=0.06,
        pointed=False,
        tail=0.75,
        tail_width=(0.045, 0.03, 0.09),
        mane=0.34,
        hue=(13, 21),
        saturation=(80, 150),
        value=(145, 215),
        belly=0.12,
        pattern="plain",
        dark_legs=1.0,
        tip=0.4,
    ),
    "wolf": Species(
        hip=0.2,
        waist=0.19,
        chest=0.26,
        slope=0.0,
        leg=0.56,
        limb=0.9,
        neck=0.25,
        head=0.15,
        muzzle=0.22,
        ear=0.15,
        pointed=True,
        tail=0.5,
        tail_width=(0.07, 0.1, 0.04),
        mane=0.0,
        hue=(8, 24),
        saturation=(8, 60),
        value=(95, 190),
        belly=0.22,
        pattern="plain",
        dark_legs=1.0,
        tip=0.6,
    ),
    "tiger": Species(
        hip=0.23,
        waist=0.22,
        chest=0.26,
        slope=0.0,
        leg=0.46,
        limb=1.2,
        neck=0.17,
        head=0.19,
        muzzle=0.14,
        ear=0.07,
        pointed=False,
        tail=0.8,
        tail_width=(0.06, 0.05, 0.05),
        mane=0.0,
        hue=(9, 17),
        saturation=(120, 200),
        value=(155, 225),
        belly=0.3,
        pattern="stripes",
        dark_legs=1.0,
        tip=0.5,
    ),
    "hyena": Species(
        hip=0.17,
        waist=0.21,
        chest=0.27,
        slope=0.14,
        leg=0.54,
        limb=0.95,
        neck=0.32,
        head=0.16,
        muzzle=0.16,
        ear=0.11,
        pointed=False,
        tail=0.35,
        tail_width=(0.04, 0.06, 0.03),
        mane=0.0,
        hue=(11, 21),
        saturation=(45, 110),
        value=(110, 190),
        belly=0.08,
        pattern="blotches",
        dark_legs=0.6,
        tip=0.5,
    ),
    "fox": Species(
        hip=0.17,
        waist=0.16,
        chest=0.19,
        slope=0.0,
        leg=0.4,
        limb=0.7,
        neck=0.2,
        head=0.16,
        muzzle=0.23,
        ear=0.18,
        pointed=True,
        tail=0.75,
        tail_width=(0.06, 0.16, 0.05),
        mane=0.0,
        hue=(6, 15),
        saturation=(120, 210),
        value=(145, 220),
        belly=0.3,
        pattern="plain",
        dark_legs=0.4,
        tip=1.6,
    ),
}

"""An abdomen painted from a patient's numbers: organs as implicit surfaces, HU by tissue and contrast phase.

Patient coordinates are millimetres in RAS+ (x grows to the patient's right, y to the front, z to the head) with the
origin in the middle of the body at the level of the first lumbar vertebra. Sizes and positions are those of an adult.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mtmed.data.demo.abdomen_patient import Patient
from mtmed.data.demo.shapes import Field, Mask, Space, add, moved, smooth_noise, times

__all__ = ["ORGANS", "paint"]

ORGANS = {
    "liver": 1,
    "spleen": 2,
    "left kidney": 3,
    "right kidney": 4,
    "pancreas": 5,
    "liver cancer": 6,
    "kidney cancer": 7,
}


@dataclass(frozen=True)
class _Tissue:
    """HU of this scan's contrast phase."""

    fat: float
    muscle: float
    liver: float
    spleen: float
    vessel: float
    kidney: float
    pancreas: float

    @classmethod
    def drawn(cls, generator: np.random.Generator) -> "_Tissue":
        mean = np.array([-104.0, 58.0, 108.0, 122.0, 165.0, 188.0, 92.0])
        return cls(*(float(value) for value in generator.normal(mean, (5, 4, 8, 8, 14, 14, 6))))


class _Canvas:
    """The voxels of the belly as a list, filled organ after organ; a voxel belongs to the first that takes it."""

    def __init__(self, space: Space, texture: Field, hu: Field) -> None:
        self.space, self.texture, self.hu = space, texture, hu
        self.organs = np.zeros(hu.shape, dtype=np.uint8)
        self.free = np.ones(hu.shape, dtype=bool)

    def fill(self, mask: Mask, value: float, grain: float, organ: str | None = None) -> Mask:
        """Fill what is still free of a mask and return that part."""
        mask = mask & self.free
        self.hu[mask] = value + grain * self.texture[mask]
        if organ:
            self.organs[mask] = ORGANS[organ]
        self.free[mask] = False
        return mask


def _paint_trunk(patient: Patient, space: Space, texture: Field, tissue: _Tissue) -> tuple[Field, Mask]:
    """Skin, fat, muscle wall, spine, ribs, lungs and heart; returns HU and the mask of the belly."""
    x, y, z = space.x, space.y, space.z
    waist = 1 - 0.05 * np.exp(-(((z + 40) / 60) ** 2))
    radius = ((np.abs(x) / (148 * waist)) ** 2.3 + (np.abs(y + 3) / 101) ** 2.3) ** (1 / 2.3)
    inner = 0.86 - 0.75 * patient.fat
    body = radius < 1
    wall = radius < 1 - patient.fat * (0.65 + 0.0035 * y) + 0.008 * space.rough
    cavity = (radius < inner) & (space.blob((0, -78, 0), (46, 40, 1000), rough=0.05) > 1)
    muscle = wall & ~cavity
    hu = np.full(x.shape, -1000.0, dtype=np.float32)
    hu[(np.abs(y + 113 - 0.0009 * x**2) < 3.5) & (np.abs(x) < 165)] = -350  # table top
    hu[body] = tissue.fat + 6 * texture[body]
    hu[body & (radius > 0.978)] = 10
    hu[muscle] = tissue.muscle + 8 * texture[muscle]
    # a sheet of fat between the layers of the wall
    hu[muscle & (np.abs(radius - inner - 0.07 + 0.06 * patient.fat) < 0.012) & (y > -40)] = tissue.fat + 40

    level = (z - patient.spine) / 36
    of_level = np.abs(level - np.round(level))
    vertebra = space.blob((0, -46, 0), (23, 18, 1000), rough=0.04)
    bone = vertebra < 1
    hu[bone] = np.where(of_level > 0.38, 85, np.where(vertebra > 0.72, 420, 190) + 30 * texture)[bone]
    transverse = (np.abs(x) < 42) & (np.abs(y + 68 - 0.05 * np.abs(x)) < 5) & (of_level < 0.16)
    spinous = (np.abs(x) < 4.5) & (y < -68) & (y > -93) & (of_level < 0.27)
    hu[(transverse | spinous) & body] = 330
    hu[space.blob((0, -71, 0), (14, 13, 1000), rough=0.0) < 1] = 360
    hu[space.blob((0, -71, 0), (9, 8, 1000), rough=0.0) < 1] = 25
    # ribs are hoops that slant down to the front and end at the costal margin
    hoop = (z - 0.62 * y + 4) / 31
    ribs = wall & (radius > inner) & (radius < inner + 0.075) & (np.abs(hoop - np.round(hoop)) < 0.15)
    ribs &= (z > 20 + 0.85 * np.maximum(y, -60)) & (np.abs(x) > 24)
    hu[ribs] = 380 + 60 * texture[ribs]

    # lungs above the domes of the diaphragm, the heart on its middle
    dome = np.full(x.shape, 18.0, dtype=np.float32)
    for centre, height, width in ((68, 106, 74), (-68, 93, 70), (0, 92, 66)):
        np.maximum(dome, height - 62 * (((x - centre) / width) ** 2 + ((y - 2) / 84) ** 2), out=dome)
    dome += 2 * space.rough
    chest = cavity & (z > dome)
    heart = chest & (space.blob((-20, 28, 130), (50, 40, 46), tilt=0.4) < 1)
    mediastinum = chest & (space.blob((-2, -12, 130), (26, 44, 90)) < 1)
    hu[chest] = -845 + 35 * texture[chest] + 130 * (texture[chest] > 1.6)
    hu[mediastinum] = tissue.fat + 60
    hu[heart] = tissue.vessel - 25 + 10 * texture[heart]
    hu[chest & (space.tube([(-12, -19, 60, 11), (-13, -20, 200, 12)], rough=0.0) < 1)] = tissue.vessel
    belly = cavity & ~chest
    hu[belly & (dome - z < 3) & (dome > 19)] = tissue.muscle
    return hu, belly & (vertebra > 1.1)


def _paint_retroperitoneum(patient: Patient, canvas: _Canvas, tissue: _Tissue) -> None:
    """Psoas muscles, great vessels and kidneys."""
    space, fill = canvas.space, canvas.fill
    # the aorta lies left of the midline and divides in front of the fourth lumbar vertebra
    fill(space.tube([(-10, -17, 170, 11), (-8, -15, -100, 9), (-36, -20, -175, 6)], rough=0.03) < 1, tissue.vessel, 4)
    fill(space.tube([(-8, -15, -100, 8), (34, -20, -175, 6)], rough=0.03) < 1, tissue.vessel, 4)
    cava = space.tube([(22, -14, 120, 12), (17, -18, -100, 11), (38, -30, -175, 8)], rough=0.03)
    fill(cava < 1, tissue.vessel - 30, 4)
    # the left kidney is higher, longer and humped, the right one lower, shorter and broader
    for side, name, centre, radii in (
        (1, "right kidney", (57.0, -50.0, -24.0), (30.0, 25.0, 48.0)),
        (-1, "left kidney", (-57.0, -50.0, 0.0), (26.0, 25.0, 56.0)),
    ):
        if name == f"{patient.missing_kidney} kidney":
            continue
        centre, radii = add(centre, patient.shift[name]), times(radii, patient.size[name])
        turn = -side * (0.22 + patient.tilt[name])
        shell = space.blob(centre, radii, tilt=turn, lean=-0.18)
        if side < 0:
            hump = space.blob(add(centre, (-0.75 * radii[0], 6.0, -4.0)), (13.0, 14.0, 19.0))
            shell = np.minimum(shell, hump)
        hilum = add(centre, (-side * 0.72 * radii[0], 5.0, 2.0))
        sinus = space.blob(hilum, (0.62 * radii[0], 0.42 * radii[1], 0.42 * radii[2]), tilt=turn)
        if patient.kidney_cancer and f"{patient.kidney_cancer[0]} kidney" == name:
            size = patient.kidney_cancer[1]
            at = add(centre, (side * 0.7 * radii[0], 4.0, -side * 0.42 * radii[2]))
            fill(space.blob(at, (size, size, size)) < 1, 76, 12, "kidney cancer")
        kidney = fill((shell < 1) & (sinus > 1), tissue.kidney, 5, name)
        canvas.hu[kidney & (shell < 0.62) & (canvas.texture > -0.2)] -= 38  # pyramids
        fill((sinus < 0.4) & (shell < 1), 22, 3)  # renal pelvis
        around = space.blob(centre, add(radii, (9.0, 9.0, 9.0)), tilt=turn, lean=-0.18)
        canvas.free[around < 1] = False  # the fat capsule keeps the neighbours away
    for side in (-1, 1):
        fill(space.blob((side * 38, -44, -95), (21, 20, 92), tilt=side * 0.16) < 1, tissue.muscle + 4, 6)


def _paint_upper_organs(patient: Patient, canvas: _Canvas, tissue: _Tissue) -> None:
    """Spleen, gall bladder, liver with its vessels, stomach and pancreas."""
    space, fill, hu = canvas.space, canvas.fill, canvas.hu
    centre = add((-88.0, -46.0, 48.0), patient.shift["spleen"])
    spleen = space.blob(centre, times((36, 46, 52), patient.size["spleen"]), tilt=0.25 + patient.tilt["spleen"])
    hollow = space.blob(add(centre, (47.0, 32.0, -6.0)), (38, 40, 58))
    fill((spleen < 1) & (hollow > 1), tissue.spleen, 5, "spleen")

    # the right lobe lies under the dome, the left lobe crosses the midline; the visceral surface slants
    centre = add((72.0, 2.0, 44.0), patient.shift["liver"])
    right_lobe = space.blob(centre, times((74, 82, 82), patient.size["liver"]), tilt=-0.1)
    left_lobe = space.blob(add(centre, (-66.0, 34.0, 14.0)), times((62, 42, 36), patient.size["liver"]), tilt=0.2)
    surface = centre[2] - 112 + 0.62 * (118 - space.x) + 0.16 * space.y + 5 * space.rough
    lobes = ((right_lobe < 1) | (left_lobe < 1)) & (space.z > surface)
    fill(space.blob((44, 46, -14), (13, 18, 24)) < 1, 8, 3)
    for offset, size in patient.liver_cancers:
        lesion = space.blob(add(centre, offset), (size, size, size), rough=0.3)
        fill((lesion < 1) & lobes & (right_lobe < 0.9), 62, 9, "liver cancer")
    liver = fill(lobes, tissue.liver, 4, "liver")
    for branch in (
        [(26, 8, 10, 9), (52, 6, 36, 6), (98, 14, 52, 3)],
        [(52, 6, 36, 6), (84, -36, 60, 3)],
        [(40, 10, 30, 5), (2, 44, 54, 3)],
    ):
        hu[liver & (space.tube(moved(branch, patient.shift["liver"])) < 1)] = 0.5 * (tissue.vessel + tissue.liver)

    # air in front and fluid behind, as in a patient who lies on the back
    centre = add((-50.0, 34.0, 44.0), patient.shift["stomach"])
    stomach = space.blob(centre, times((38, 42, 44), patient.size["stomach"]), tilt=-0.3)
    np.minimum(stomach, space.blob(add(centre, (-4.0, -34.0, 22.0)), (34, 38, 32)), out=stomach)
    np.minimum(stomach, space.tube([(-46, 46, 20, 26), (-20, 56, -12, 20), (22, 48, -8, 14)]), out=stomach)
    lumen = fill(stomach < 1, 62, 6) & (stomach < 0.72)
    hu[lumen] = np.where(space.y > centre[1] + 16, -960, 22)[lumen]

    width = patient.size["pancreas"][0]
    course = [(32, 6, -30, 15), (26, 12, -6, 14), (0, 20, 6, 10.5), (-34, 4, 20, 11), (-66, -18, 32, 9)]
    course = [(right, front, up, radius * width) for right, front, up, radius in course]
    pancreas = space.tube(moved(course, patient.shift["pancreas"]), rough=0.3)
    fill(pancreas < 1, tissue.pancreas, 10, "pancreas")


def _paint_gut(patient: Patient, canvas: _Canvas) -> None:
    """The colon with its haustra, gas and stool, framing loops of small bowel."""
    space, fill = canvas.space, canvas.fill
    right = [(92.0, -8.0, -170.0, 22.0), (94.0, -2.0, -62.0, 22.0), (74.0, 38.0, -50.0, 18.0), (0.0, 66.0, -70.0, 17.0)]
    left = [(-72.0, 40.0, -36.0, 17.0), (-96.0, -8.0, -20.0, 15.0), (-98.0, -14.0, -170.0, 15.0)]
    colon = space.tube(right + left) * (1 + 0.16 * np.sin(space.z / 6.5))
    content = fill(colon < 1, 55, 6) & (colon < 0.74)
    gas = canvas.texture + 0.02 * (space.y - 20) > 0.9
    canvas.hu[content] = np.where(gas, -820, 30 + 50 * canvas.texture)[content]
    for centre, size in patient.bowel:
        loop = space.blob(centre, (1.35 * size, size, size), tilt=size)
        canvas.hu[fill(loop < 1, 68, 6) & (loop < 0.6)] = 24


def paint(patient: Patient, points: Field, generator: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """Paint one scan of a patient.

    Args:
        patient: whom.
        points: shape (3, H, W, D): where each voxel is in scanner coordinates (mm, RAS+), the body near the origin.
        generator: breathing, posture, contrast phase and noise of this scan.

    Returns:
        The scan in HU, and a map of `ORGANS`, both of shape (H, W, D).
    """
    shape = points.shape[1:]
    x, y, z = (
        (points[axis] / np.float32(patient.scale[axis]) + 3.5 * smooth_noise(generator, shape, 5)).astype(np.float32)
        for axis in range(3)
    )
    space = Space(x, y, z, smooth_noise(generator, shape, 14))
    texture = smooth_noise(generator, shape, 30)
    tissue = _Tissue.drawn(generator)
    hu, belly = _paint_trunk(patient, space, texture, tissue)
    organs = np.zeros(shape, dtype=np.uint8)
    canvas = _Canvas(space.within(belly), texture[belly], hu[belly])
    _paint_retroperitoneum(patient, canvas, tissue)
    _paint_upper_organs(patient, canvas, tissue)
    _paint_gut(patient, canvas)
    hu[belly], organs[belly] = canvas.hu, canvas.organs
    hu = np.asarray(gaussian_filter(hu, 0.55), dtype=np.float32)
    grain = gaussian_filter(generator.standard_normal(shape, dtype=np.float32), (0.5, 0.5, 0.25))
    hu += np.float32(generator.uniform(13, 20)) * grain
    return np.clip(hu, -1024, 1500), organs

"""Something that shines beside a part of the strip is no slope of the ground under all of it."""

import numpy as np

from cartpole.vision import slices
from cartpole.vision.places import fit_places


def test_a_hand_beside_some_slices_moves_no_others() -> None:
    centre, half, blur, n = 30.3, 4.0, 1.6, 60
    columns = np.arange(64.0)
    edges = [np.clip((columns - centre + side) / blur, -1.0, 1.0) for side in (half, -half)]
    rise, fall = (0.5 + t * (0.9375 - t**2 * (0.625 - t**2 * 0.1875)) for t in edges)
    frame = np.tile(15.0 + 180.0 * (rise - fall), (n, 1))
    frame[: n // 2, 37:] += 35.0  # beside what is looked at
    shape = np.array([half, 0.0, blur, 0.0, 0.0, 0.0, 1.0])
    line = np.array([centre, 0.0, 0.0, 0.5 * (n - 1)])
    table, report = np.zeros((n, slices.TABLE_COLUMNS)), np.zeros(slices.REPORT_SIZE)
    lines = np.rint(frame).astype(np.uint8)[::1, ::1]
    assert fit_places(lines, line, 0, n - 1, shape, table, report) == n
    assert np.all(np.abs(table[n // 2 :, slices.CENTROID] - centre) < 0.02)

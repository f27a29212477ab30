"""Names for the places in the vectors that the kernels of a pose exchange."""

from __future__ import annotations

# What is known before the picture: rate and speed at mid-exposure of the middle line and how sure
# they are, expected pivot and angle at that time (sigma inf: unknown), tape, times of readout and
# exposure.
(
    OMEGA,
    SIGMA_OMEGA,
    SPEED,
    SIGMA_SPEED,
    EXPECT_P,
    SIGMA_P,
    EXPECT_THETA,
    SIGMA_THETA,
    TAPE_START,
    TAPE_END,
    READOUT,
    HEIGHT,
    PX_PER_M,
    EXPOSURE,
    WIDTH,  # of the tape [px]
    SWING,  # how much more variance the strip's second end has by its motion than its first [px^2],
    SIGMA_SWING,  # by the picture itself (sigma inf: not asked)
) = range(17)
PRIOR_SIZE = 17

# The result.
(
    THETA,
    PIVOT,
    RATE,
    TIME,  # of all three, from mid-exposure of the middle line [s]
    THETA_ERROR,
    PIVOT_ERROR,
    RATE_ERROR,
    THETA_PIVOT,  # correlations
    THETA_RATE,
    PIVOT_RATE,
    SCORE,  # chi-square of the chosen end against what was known
    OTHER_SCORE,  # of the opposite end
    CHI2,  # of the axis points, a degree of freedom
    NEAR_X,  # the strip's ends in the picture [px], near the pivot first
    NEAR_Y,
    FAR_X,
    FAR_Y,
    LENGTH,  # distance of the two ends [m]
    SEEN,  # length of the tape in good slices [m]
    ENDS_SEEN,
    CONFIDENCE,
    RESIDUAL,
    CORNERS,  # eight numbers
) = range(23)
POSE_SIZE = CORNERS + 8

TRACK_FIT_SIGMA_M = 0.002  # how far from y = 0 the pivot may be
END_SIGMA_PX = 0.11  # one end of the tape along the axis

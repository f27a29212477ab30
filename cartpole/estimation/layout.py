"""Where the filter's compiled kernels keep what: index names, shared with the NumPy twin.

The filter is a fold over events sorted by the time they were true. Events sit in a ring; behind
each stands a snapshot of everything the fold knows after it, so a late measurement costs only the
events that came after it. The numbers here are frozen into the kernels (njit) that use them.
"""

from __future__ import annotations

# State: cart [m], [m/s]; pole [rad], [rad/s]; offsets of the camera's and of the encoder's angle,
# measured minus true [rad].
STATES = 6
OFFSET = 4
ZERO = 5

# Kinds of events, in the order they act at the same instant.
START, COMMAND, ENCODER, CAMERA = range(4)

# Channels: one scalar measurement each, with its own gate.
ENCODER_P, ENCODER_THETA, CAMERA_P, CAMERA_THETA = range(4)
CHANNELS = 4

# Snapshot, floats.
X = 0  # state, STATES of them
COV = X + STATES  # covariance row by row
INPUT = COV + STATES * STATES  # velocity command in force [m/s]
SLOPE = INPUT + 1  # d(estimate) / d(camera delay), STATES of them
SCORE = SLOPE + STATES  # evidence for a camera delay error, and its weight
WEIGHT = SCORE + 1
IN_A_ROW = WEIGHT + 1  # rejections since the last acceptance, by channel
NIS = IN_A_ROW + CHANNELS  # running mean of innovation^2 / variance, by channel
REJECTED = NIS + CHANNELS  # rejections so far
LAST_THETA = REJECTED + 1  # the camera's last reading, to notice a frozen picture
LAST_P = LAST_THETA + 1
MISS = LAST_P + 1  # by channel: a refused innovation, how many later ones agreed with it,
AGREED = MISS + CHANNELS  # and how many in a row did not
STRANGE = AGREED + CHANNELS
CULPRITS = STRANGE + CHANNELS  # how often each was found guilty (SLIPPED, STUCK, MOVED)
COUNT = CULPRITS + 3  # the pole's last count as an angle, and the camera's reading when it came
SEEN = COUNT + 1
FIRST_SHARE = SEEN + 1  # by channel: the first refused innovation in a row, over its bound
REFUSED_FROM = FIRST_SHARE + CHANNELS  # the camera's reading at the first of its refusals in a row
MOVED_FROM = REFUSED_FROM + 1  # the camera's offset before it was freed, and its variance
JUMPED = MOVED_FROM + 2  # 1: by a push, or by the stamps of a pole that is too fast to tell
FIRST_MISS = JUMPED + 1  # the camera's first refused innovation of those that are about the same
OBJECT_FROM = FIRST_MISS + 1  # and its reading then
MISS_RATE = OBJECT_FROM + 1  # of the camera's refused innovations that agree, and over which span
FLOATS = MISS_RATE + 2

# Snapshot, integers: times [ns], -1 never.
TIME = 0
ACCEPTED = 1  # last acceptance by channel
SAME_SINCE = ACCEPTED + CHANNELS  # since when the camera reads LAST_THETA, LAST_P
REFUSED_AT = SAME_SINCE + 1  # when MISS was refused, by channel
FIRST_REFUSED = REFUSED_AT + CHANNELS  # of those in a row, by channel
GUILTY_AT = FIRST_REFUSED + CHANNELS  # when each culprit was found last
COUNT_SINCE = GUILTY_AT + 3  # since when the pole's count is COUNT
DISTRUST = COUNT_SINCE + 1  # the pole's count is not used before
CART_AT = DISTRUST + 1  # when the cart's counts were believed to have jumped
OBJECT_SINCE = CART_AT + 1  # when the camera was off by FIRST_MISS
FREED_AT = OBJECT_SINCE + 1  # when the camera's offset was freed last
WHOLE = FREED_AT + 1

# Culprits: the pole's encoder slipped on its shaft, or sticks; the camera was moved.
SLIPPED, STUCK, MOVED = range(3)

# Ring positions, counted without wrapping: the base event, one past the newest, newest folded.
FIRST, END, DONE = range(3)
MARKS = 3

# Parameters: first the model's coefficients, in their order.
COUPLING, GRAVITY = 0, 1
CART_POWER, POLE_POWER, OFFSET_POWER, GATE, REOPEN, HISTORY_NS, JITTER_S = range(6, 13)
GAIN, MOST_RATE, MOST_SPEED = range(13, 16)
PARAMETERS = 16

# Status of an insertion.
TAKEN, TOO_OLD, REPEATED = range(3)

MAX_STEP_S = 0.01  # longest single step of the model between events
AVERAGE = 0.02  # weight of one measurement in the running means
# A cart whose counts are off by more than the model of the drive explains (a soft belt, a slow
# ramp) is disturbed by more: beyond this NIS its disturbance grows with the square of what is over.
RESTLESS, MORE = 1.6, 3.0
RATE_SIGMA_RAD_S = 10.0  # pole rate when nothing is known of it
AGREE = 3  # refusals that must agree before the gate opens; after so many times
PATIENCE = 8  # ``reopen_after`` it opens whatever they say
# A pole that was hit leaves its count's prediction by and by; a count that slipped is off at once.
HIT_AGREE, HIT_GROWS = 2, 1.25
EDGE = 0.1  # softness of an encoder's edge: deviation over half a count
DELAY_MEMORY = 1.0 - 1.0 / 1500.0  # forgetting per frame of the delay's evidence
MOST_DELAY_S = 0.05  # by which the camera's delay may be wrong
# What is smaller is the model's or a setting's error, no accident; and no camera is turned by more.
LEAST_SLIP_RAD, LEAST_PUSH_RAD, MOST_PUSH_RAD = 0.05, 0.02, 0.35
STAMPS_OFF_S = 0.004  # by which bursts may stamp counts wrong: so much of the rate is no push
VOUCH_NS = 10_000_000  # frames that fit so long after a jump of the count speak against the count
AGAIN_NS = 1_000_000_000  # a second slip within this: the encoder follows the pole no more
DISTRUST_NS = 2_000_000_000  # then it is not asked for so long
STILL_NS = 50_000_000  # a count that stood so long while the camera saw the pole move is stuck
STILL_RAD = 0.012
# Two channels tell of the same jump if they differ by less than this share of it, and by less than
# that; an object that is off by the same for so long while it moves so far is the pole.
ALIKE, ALIKE_RAD = 0.5, 0.1
FOLLOWS_NS, FOLLOWS_RAD = 100_000_000, 0.2
ALONG, CLOSELY = 0.5, 0.2  # shares of its way by which an object may lag, and be the pole
STEADY_NS = 150_000_000  # no pole that turns back is as near to an object for so long
CREEP = 1.7  # a camera that is refused by less than this at first was not pushed: it drifted away
FRESH_NS = 50_000_000  # the encoder is at work if it was accepted within this time

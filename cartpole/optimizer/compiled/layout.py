"""Where every number of a solve lives: one flat array of rows, one array of scalars.

The workspace is a flat float64 array of rows, STRIDE numbers long; kernels see it as the table
``x[ROW, stage]`` (``view.stage``). Loops over the stages run to the next multiple of LANES, so that
they are SIMD code throughout, and the stages past N carry zero weights. Recorded sessions hold
workspaces: a number once given to a row or a scalar stays, and 46, 47, 117 (rows) and 13 (scalars)
are free.

Variables of stage k: state (p, v, theta, omega)_k, k = 0 ... N, of which k = 0 is measured, and
the held command U_k, k = 0 ... N - 1: a velocity command (its rate W is the input, a limit of its
own) or, for the acceleration kind, the cart's acceleration, which is the input itself. The
recursion works in y = (p, v, theta, omega, e) with e = U - v (velocity kind) or e = U: in these
coordinates the cart's columns are constants and the pole is driven by e alone.
"""

from __future__ import annotations

STRIDE = 416
LANES = 8
MAX_STEPS = 400

VELOCITY = 0
ACCELERATION = 1

# The iterate, its trial, its direction: six rows each in the same order.
(P, V, TH, OM, U, W) = range(6)
(TP, TV, TTH, TOM, TU, TW) = range(6, 12)
(DP, DV, DTH, DOM, DU, DW) = range(12, 18)
# Multipliers of the dynamics reaching stage k (in y coordinates), and the trial's theta, omega.
(LP, LV, LTH, LOM, LE) = range(18, 23)
(NLP, NLV, NLTH, NLOM, NLE) = range(23, 28)
(TLTH, TLOM) = range(28, 30)
# Multipliers of the limits: lower and upper of p, lead row, U, W; then their directions.
(ZPL, ZPU, ZGL, ZGU, ZUL, ZUU, ZWL, ZWU) = range(30, 38)
(DZPL, DZPU, DZGL, DZGU, DZUL, DZUU, DZWL, DZWU) = range(38, 46)
# Dynamics at the trial: defects, Jacobian, curvature.
(CTH, COM) = range(48, 50)
(F11, F12, G1, F21, F22, G2) = range(50, 56)
(HTT, HTO, HTE, HOO, HOE, HEE) = range(56, 62)
INVERSE = 62  # of the pivot, 1 / R
# Quadratic model: gradient and Hessian in y, and of the rate W.
(QP, QV, QTH, QOM, QE, QW) = range(63, 69)
(QPP, QPV, QVV, QVE, QEE, QTT, QTO, QOO, QTE, QOE, QWW) = range(69, 80)
# Cost-to-go: upper triangle, then its gradient.
(P00, P01, P02, P03, P04, P11, P12, P13, P14, P22, P23, P24, P33, P34, P44) = range(80, 95)
(S0, S1, S2, S3, S4) = range(95, 100)
# Feedback of the input: gains on (p, v, theta, omega, e) and the feed-forward.
(K0, K1, K2, K3, K4, KF) = range(100, 106)
# Data of the problem, stage by stage.
(H, C2, E1, D, RM, R1, REF, LIMP, LIMG, LIMU, LIMW) = range(106, 117)
(RATIO, RATIO2, RATIO3) = range(118, 121)  # scratch
ROWS = 121
BIG = 1e9  # a limit nobody reaches

# Scalars: data.
(
    SCALE,
    COUPLING,
    GRAVITY,
    DAMPING,
    LEAD_P,
    LEAD_V,
    WEIGHT_P,
    WEIGHT_V,
    WEIGHT_TH,
    WEIGHT_OM,
    WEIGHT_U,
    WEIGHT_W,
    THETA_REF,
) = range(13)
(MU_MIN, TOLERANCE) = range(14, 16)
# Terminal cost: half of a quadratic form over y - reference, its upper triangle.
TERMINAL = 16
# Scalars: state and result of a solve.
(MU, NU, COST, RESIDUAL, DEFECT, STEPS, LAST_ALPHA, CURVATURE, BARRIER_RESIDUAL, SUM_DEFECT) = (
    range(31, 41)
)
# Scalars: limits as the problem states them, the time constant of the cart, and whether the rows of
# limits are at present wider than that.
(BASE_P, BASE_G, BASE_U, BASE_W, TAU, RELAXED) = range(41, 47)
# Feedback u rate = -K (y - reference) of the linear regulator, for guesses.
GAIN = 47
SCALARS = 52

/* What every state of the board keeps, whatever was done to it; for the proofs only. */
#ifndef RULES_H
#define RULES_H
#include "safety.h"

/*@
  predicate within_ceilings(config_t c) =
    0 < c.v_max <= CEILING_VELOCITY_UM_S && c.home_v_max <= c.v_max &&
    0 < c.a_max <= CEILING_ACCELERATION_MM_S2 && c.dead_band <= CEILING_DRIVE &&
    FLOOR_TIMEOUT_MS <= c.timeout <= CEILING_TIMEOUT_MS && 0 < c.period <= CEILING_PERIOD_MS;

  predicate no_limits(config_t c) =
    c.v_max == 0 && c.home_v_max == 0 && c.a_max == 0 && c.dead_band == 0 && c.timeout == 0 &&
    c.period == 0;

  predicate sound(safety_t s) =
    (s.configured ? within_ceilings(s.limits) : no_limits(s.limits)) &&
    (s.enabled ==> s.configured) &&
    -s.limits.v_max <= s.ramp.velocity <= s.limits.v_max &&
    -s.limits.v_max <= s.target <= s.limits.v_max &&
    0 <= s.ramp.budget <= s.limits.a_max * s.limits.period &&
    (!s.enabled ==> s.ramp.velocity == 0 && s.target == 0 && s.ramp.budget == 0) &&
    (s.stopping ==> s.enabled && s.target == 0 && s.ramp.budget == 0) &&
    (s.homing ==> s.enabled) &&
    (s.may_enable ==> s.configured && !s.enabled && s.fault == FAULT_NONE) &&
    (s.fault != FAULT_NONE ==> !s.enabled || s.stopping) &&
    s.bad_in_a_row <= BAD_FRAMES_IN_A_ROW;

  predicate silent(safety_t s, integer now) =
    (uint16_t)(now - s.heard_ms) >= s.limits.timeout - 1;
*/
#endif

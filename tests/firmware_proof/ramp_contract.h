/* What ramp_step promises: shown by WP, taken for granted by Eva. */
#include "protocol.h"
#include "ramp.h"

#define CEILING_BUDGET (CEILING_ACCELERATION_MM_S2 * CEILING_PERIOD_MS)

/*@ requires \valid(ramp) && 0 <= slope <= CEILING_ACCELERATION_MM_S2;
    requires period_ms <= CEILING_PERIOD_MS && 0 <= ramp->budget <= CEILING_BUDGET;
    requires -CEILING_VELOCITY_UM_S <= target <= CEILING_VELOCITY_UM_S;
    requires -CEILING_VELOCITY_UM_S <= ramp->velocity <= CEILING_VELOCITY_UM_S;
    assigns *ramp \from *ramp, target, slope, period_ms;
    ensures -CEILING_VELOCITY_UM_S <= ramp->velocity <= CEILING_VELOCITY_UM_S;
    ensures 0 <= ramp->budget <= CEILING_BUDGET;
    ensures saved: ramp->budget <= slope * period_ms;
    ensures mean: \abs(ramp->velocity - \old(ramp->velocity)) + ramp->budget
      <= \old(ramp->budget) + slope;
    ensures step: \abs(ramp->velocity - \old(ramp->velocity)) <= slope * period_ms;
    ensures up: \old(ramp->velocity) <= target ==>
      \old(ramp->velocity) <= ramp->velocity <= target;
    ensures down: \old(ramp->velocity) >= target ==>
      \old(ramp->velocity) >= ramp->velocity >= target;
    ensures arrives: period_ms > 0 && \abs(target - \old(ramp->velocity)) <= slope ==>
      ramp->velocity == target;
    ensures drained: period_ms > 0 && \old(ramp->budget) == 0 &&
      \abs(target - \old(ramp->velocity)) > slope ==>
      ramp->budget == 0 && \abs(ramp->velocity - \old(ramp->velocity)) == slope;
*/
void ramp_step(ramp_t *ramp, int32_t target, int32_t slope, uint8_t period_ms);

#include "ramp.h"

void ramp_step(ramp_t *ramp, int32_t target, int32_t slope, uint8_t period_ms) {
  int32_t full = slope * period_ms;
  ramp->budget += slope;
  if (ramp->budget > full) ramp->budget = full;
  int32_t step = target - ramp->velocity;
  if (step > ramp->budget) step = ramp->budget;
  if (step < -ramp->budget) step = -ramp->budget;
  ramp->velocity += step;
  ramp->budget -= step < 0 ? -step : step;
}

void ramp_drain(ramp_t *ramp) { ramp->budget = 0; }

void ramp_halt(ramp_t *ramp) {
  ramp->velocity = 0;
  ramp->budget = 0;
}

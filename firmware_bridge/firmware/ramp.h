/* Velocity that follows a target no faster than a slope allows. Velocities in um/s, slope in um/s
 * per millisecond (which is mm/s2). */
#ifndef RAMP_H
#define RAMP_H
#include <stdint.h>

typedef struct {
  int32_t velocity;
  /* What may still be changed at once. The host plans steps of slope * period held for a period;
   * saving up one period lets such a step pass unsmeared and holds the mean slope all the same. */
  int32_t budget;
} ramp_t;

/* One millisecond. */
void ramp_step(ramp_t *ramp, int32_t target, int32_t slope, uint8_t period_ms);
/* Forgets what was saved up: from now on a plain slope. */
void ramp_drain(ramp_t *ramp);
void ramp_halt(ramp_t *ramp);

#endif

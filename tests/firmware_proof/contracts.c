/* What safety.c and ramp.c promise in any sound state, at any clock. WP shows each of it from the
 * sources included at the end; as everything keeps a state sound that was sound before, and the one
 * at boot is, it holds for every history of bytes, switches and times. */
#include "ramp_contract.h"
#include "rules.h"

/*@ requires \valid(ramp);
    assigns ramp->budget;
    ensures ramp->budget == 0;
*/
void ramp_drain(ramp_t *ramp);

/*@ requires \valid(ramp);
    assigns *ramp;
    ensures ramp->velocity == 0 && ramp->budget == 0;
*/
void ramp_halt(ramp_t *ramp);

/*@ requires \valid(s);
    assigns s->enabled, s->may_enable, s->stopping, s->homing, s->target, s->ramp;
    ensures !s->enabled && !s->may_enable && !s->stopping && !s->homing;
    ensures s->target == 0 && s->ramp.velocity == 0 && s->ramp.budget == 0;
*/
static void switch_off(safety_t *s);

/*@ requires \valid(s);
    assigns s->stopping, s->target, s->ramp.budget;
    ensures s->stopping && s->target == 0 && s->ramp.budget == 0;
*/
static void begin_stop(safety_t *s);

/*@ requires \valid(s) && sound(*s);
    assigns s->fault, s->enabled, s->may_enable, s->stopping, s->homing, s->target, s->ramp;
    ensures sound(*s);
    ensures s->fault == \max(\old(s->fault), fault);
    ensures !s->may_enable || fault == FAULT_NONE;
    ensures s->enabled ==> \old(s->enabled) && s->stopping && fault < FAULT_LIMIT_LOW;
    ensures s->ramp.velocity == 0 || s->ramp.velocity == \old(s->ramp.velocity);
    ensures s->enabled ==>
      s->ramp.velocity == \old(s->ramp.velocity) && s->homing == \old(s->homing);
    ensures s->ramp.budget == 0 || !\old(s->enabled);
    ensures fault < FAULT_LIMIT_LOW ==>
      s->enabled == \old(s->enabled) && s->homing == \old(s->homing);
*/
void safety_trip(safety_t *s, uint8_t fault);

/*@ requires \valid(s);
    assigns s->fault;
    ensures s->fault == FAULT_NONE || s->fault == \old(s->fault);
    ensures \old(s->fault) == FAULT_ESTOP && (s->inputs & INPUT_ESTOP) ==>
      s->fault == FAULT_ESTOP;
*/
static void clear_fault(safety_t *s);

/*@ requires limit <= CEILING_VELOCITY_UM_S;
    assigns \nothing;
    ensures -(integer)limit <= \result <= limit;
    ensures \abs(value) <= limit ==> \result == value;
*/
static int32_t clamp(int32_t value, uint32_t limit);

/*@ requires \valid(s) && sound(*s) && s->enabled;
    assigns s->target, s->ramp;
    ensures sound(*s);
    ensures s->ramp.velocity == 0 || s->ramp.velocity == \old(s->ramp.velocity);
    ensures s->ramp.budget == \old(s->ramp.budget) || s->ramp.velocity == 0 == s->ramp.budget;
    ensures s->target == 0 || s->target == \old(s->target);
    ensures (s->inputs & INPUT_LIMIT_LOW) ==> s->ramp.velocity >= 0 && s->target >= 0;
    ensures (s->inputs & INPUT_LIMIT_HIGH) ==> s->ramp.velocity <= 0 && s->target <= 0;
    ensures !(s->inputs & INPUT_LIMIT_LOW) && !(s->inputs & INPUT_LIMIT_HIGH) ==>
      s->ramp == \old(s->ramp) && s->target == \old(s->target);
*/
static void block(safety_t *s);

/*@ requires \valid(s) && sound(*s);
    assigns s->fault, s->enabled, s->may_enable, s->stopping, s->homing, s->target, s->ramp;
    ensures sound(*s);
    ensures s->fault >= \old(s->fault);
    ensures s->enabled ==> \old(s->enabled) && s->stopping == \old(s->stopping);
    ensures s->may_enable ==> \old(s->may_enable);
    ensures s->ramp.velocity == 0 || s->ramp.velocity == \old(s->ramp.velocity);
    ensures s->ramp.budget == \old(s->ramp.budget) || s->ramp.budget == 0;
    ensures s->enabled ==> s->homing == \old(s->homing);
    ensures s->enabled && !(s->inputs & INPUT_LIMIT_LOW) && !(s->inputs & INPUT_LIMIT_HIGH) ==>
      s->ramp == \old(s->ramp) && s->target == \old(s->target);
    ensures (s->inputs & INPUT_ESTOP) ==> !s->enabled && s->fault >= FAULT_ESTOP;
    ensures (s->inputs & INPUT_LIMIT_LOW) ==> s->ramp.velocity >= 0 && s->target >= 0;
    ensures (s->inputs & INPUT_LIMIT_HIGH) ==> s->ramp.velocity <= 0 && s->target <= 0;
    ensures (s->inputs & INPUT_LIMIT_LOW) ==> !s->enabled || s->homing;
    ensures (s->inputs & INPUT_LIMIT_HIGH) ==> !s->enabled || s->homing;
*/
static void check_inputs(safety_t *s);

/*@ requires \valid(s) && sound(*s);
    assigns s->fault, s->enabled, s->may_enable, s->stopping, s->homing, s->target, s->ramp;
    ensures sound(*s);
    ensures s->fault >= \old(s->fault);
    ensures s->enabled == \old(s->enabled) && s->homing == \old(s->homing);
    ensures \old(s->stopping) ==> s->stopping;
    ensures s->may_enable ==> \old(s->may_enable);
    ensures s->ramp.velocity == \old(s->ramp.velocity);
    ensures s->ramp.budget == \old(s->ramp.budget) || s->ramp.budget == 0;
    ensures s->target == \old(s->target) || s->target == 0;
    ensures silent(*s, now_ms) ==> !s->may_enable && (s->enabled ==> s->stopping);
    ensures named: silent(*s, now_ms) && s->enabled && !\old(s->stopping) ==>
      s->fault >= FAULT_HEARTBEAT;
    ensures !silent(*s, now_ms) ==>
      s->fault == \old(s->fault) && s->stopping == \old(s->stopping) &&
      s->may_enable == \old(s->may_enable) && s->ramp == \old(s->ramp) &&
      s->target == \old(s->target);
*/
static void check_heartbeat(safety_t *s, uint16_t now_ms);

/*@ requires \valid(s) && sound(*s);
    assigns *s;
    ensures sound(*s);
    ensures s->inputs == inputs && s->heard_ms == \old(s->heard_ms);
    ensures s->configured == \old(s->configured) && s->limits == \old(s->limits);
    ensures latched: s->fault >= \old(s->fault);
    ensures never_on: (s->enabled ==> \old(s->enabled)) &&
      (s->may_enable ==> \old(s->may_enable));
    ensures estop: (inputs & INPUT_ESTOP) ==> !s->enabled && s->fault >= FAULT_ESTOP;
    ensures low: (inputs & INPUT_LIMIT_LOW) ==> s->ramp.velocity >= 0;
    ensures high: (inputs & INPUT_LIMIT_HIGH) ==> s->ramp.velocity <= 0;
    ensures step: s->enabled ==>
      \abs(s->ramp.velocity - \old(s->ramp.velocity)) <= s->limits.a_max * s->limits.period ||
      (\old(s->homing) && inputs != 0 &&
       \abs(s->ramp.velocity) <= s->limits.a_max * s->limits.period);
    ensures mean: s->enabled && inputs == 0 ==>
      \abs(s->ramp.velocity - \old(s->ramp.velocity)) + s->ramp.budget <=
      \old(s->ramp.budget) + s->limits.a_max;
    ensures silence: silent(*s, now_ms) ==> !s->may_enable && (s->enabled ==> s->stopping);
    ensures stays: \old(s->stopping) && s->enabled ==> s->stopping;
    ensures braking: s->stopping ==>
      0 < \abs(s->ramp.velocity) <= \abs(\old(s->ramp.velocity)) - s->limits.a_max;
*/
void safety_tick(safety_t *s, uint16_t now_ms, uint8_t inputs);

/*@ requires \valid(s) && sound(*s) && \valid_read(command) && \separated(s, command);
    assigns *s;
    ensures sound(*s);
    ensures s->inputs == \old(s->inputs);
    ensures s->configured == \old(s->configured) && s->limits == \old(s->limits);
    ensures latched: s->fault == \old(s->fault) ||
      (s->fault == FAULT_NONE && (command->flags & COMMAND_CLEAR) &&
       !(command->flags & COMMAND_ENABLE));
    ensures estop: \old(s->fault) == FAULT_ESTOP && (s->inputs & INPUT_ESTOP) ==>
      s->fault == FAULT_ESTOP;
    ensures two_words: s->enabled && !\old(s->enabled) ==>
      \old(s->may_enable) && (command->flags & COMMAND_ENABLE);
    ensures first_word: s->may_enable && !\old(s->may_enable) ==>
      !(command->flags & COMMAND_ENABLE);
    ensures off: !(command->flags & COMMAND_ENABLE) ==> !s->enabled;
    ensures speed: s->ramp.velocity == \old(s->ramp.velocity) || !s->enabled;
    ensures stays: \old(s->stopping) && s->enabled ==> s->stopping;
    ensures repeated: (command->flags & COMMAND_ENABLE) && \old(s->acknowledged) &&
      command->sequence == \old(s->sequence) ==>
      !\result && s->heard_ms == \old(s->heard_ms) && s->enabled == \old(s->enabled) &&
      s->target == \old(s->target);
    ensures asked: s->target == \old(s->target) || s->target == 0 ||
      \abs(s->target) <= \abs(command->velocity);
*/
bool safety_command(safety_t *s, const command_t *command, uint16_t now_ms);

/*@ requires \valid(s) && sound(*s);
    assigns *s;
    ensures sound(*s);
    ensures s->configured == \old(s->configured) && s->limits == \old(s->limits);
    ensures s->heard_ms == \old(s->heard_ms);
    ensures latched: s->fault >= \old(s->fault);
    ensures never_on: (s->enabled ==> \old(s->enabled)) &&
      (s->may_enable ==> \old(s->may_enable));
    ensures speed: s->enabled ==> s->ramp.velocity == \old(s->ramp.velocity);
    ensures stays: \old(s->stopping) && s->enabled ==> s->stopping;
    ensures three: s->bad_in_a_row == BAD_FRAMES_IN_A_ROW && \old(s->bad_in_a_row) == 2 ==>
      !s->enabled || s->stopping;
*/
void safety_bad_frame(safety_t *s, uint16_t now_ms);

/*@ requires \valid(s) && sound(*s) && \valid_read(limits) && \separated(s, limits);
    assigns s->limits, s->config_crc, s->configured;
    ensures sound(*s);
    ensures taken: \result ==> !s->enabled && s->limits == *limits && s->configured;
    ensures kept: !\result ==>
      s->limits == \old(s->limits) && s->configured == \old(s->configured);
*/
bool safety_configure(safety_t *s, const config_t *limits, uint16_t crc);

/*@ requires 0 <= dead_band <= CEILING_DRIVE;
    assigns \nothing;
    ensures dead_band <= \result <= CEILING_DRIVE;
*/
static int16_t drive_units(uint32_t speed, uint32_t gain, int16_t dead_band);

/*@ requires \valid_read(s) && sound(*s);
    assigns \nothing;
    ensures zero: !s->enabled || s->ramp.velocity == 0 ==> \result == 0;
    ensures range: -CEILING_DRIVE <= \result <= CEILING_DRIVE;
    ensures dead_band: s->ramp.velocity != 0 ==> \abs(\result) >= s->limits.dead_band;
    ensures right: s->ramp.velocity > 0 ==>
      ((s->limits.flags & CONFIG_REVERSE) ? \result <= 0 : \result >= 0);
    ensures left: s->ramp.velocity < 0 ==>
      ((s->limits.flags & CONFIG_REVERSE) ? \result >= 0 : \result <= 0);
*/
int16_t safety_drive(const safety_t *s);

/*@ requires \valid_read(s);
    assigns \nothing;
*/
uint8_t safety_flags(const safety_t *s);

#include "ramp.c"
#include "safety.c"

/*@ assigns \nothing; */
uint8_t any_inputs(void);

/*@ assigns \nothing;
    ensures (uint16_t)(\result - heard) == (uint16_t)ms;
*/
uint16_t clock_after(uint16_t heard, uint32_t ms);

/* A host that says nothing more, a tick a millisecond: how many until the drive is off. Fewer than
 * the time-out and the ramp together, whatever the switches do; then the velocity is zero. */
/*@ requires \valid(s) && sound(*s) && s->enabled;
    assigns *s;
    ensures off: !s->enabled && s->ramp.velocity == 0;
    ensures soon: \result < s->limits.timeout ||
      (\result - s->limits.timeout) * s->limits.a_max < s->limits.v_max;
*/
uint32_t silence(safety_t *s) {
  uint32_t ms = 0;
  int64_t spent = 0;
  /*@ loop invariant sound(*s) && s->configured;
      loop invariant s->limits == \at(s->limits, Pre) && s->heard_ms == \at(s->heard_ms, Pre);
      loop invariant s->enabled && ms >= s->limits.timeout - 1 ==> s->stopping;
      loop invariant spent == (ms < s->limits.timeout - 1
        ? 0 : (ms - s->limits.timeout + 2) * s->limits.a_max);
      loop invariant s->enabled ==> \abs(s->ramp.velocity) <= s->limits.v_max - spent;
      loop invariant s->enabled && spent > 0 ==> \abs(s->ramp.velocity) > 0;
      loop invariant 0 <= spent < s->limits.v_max + s->limits.a_max;
      loop invariant ms <= s->limits.timeout - 1 + spent;
      loop assigns ms, spent, *s;
      loop variant ms < s->limits.timeout - 1
        ? s->limits.timeout - 1 - ms + s->limits.v_max : \abs(s->ramp.velocity);
  */
  while (s->enabled) {
    ms++;
    if (ms >= (uint32_t)s->limits.timeout - 1) spent += s->limits.a_max;
    safety_tick(s, clock_after(s->heard_ms, ms), any_inputs());
  }
  return ms;
}

#include "safety.h"

#include <string.h>

static void switch_off(safety_t *s) {
  s->enabled = false;
  s->may_enable = false;
  s->stopping = false;
  s->homing = false;
  s->target = 0;
  ramp_halt(&s->ramp);
}

static void begin_stop(safety_t *s) {
  s->stopping = true;
  s->target = 0;
  ramp_drain(&s->ramp);
}

void safety_init(safety_t *s, uint8_t fault) {
  memset(s, 0, sizeof *s);
  s->fault = fault;
}

bool safety_configure(safety_t *s, const config_t *limits, uint16_t crc) {
  if (s->enabled) return false;
  if (limits->v_max == 0 || limits->v_max > CEILING_VELOCITY_UM_S) return false;
  if (limits->home_v_max > limits->v_max) return false;
  if (limits->a_max == 0 || limits->a_max > CEILING_ACCELERATION_MM_S2) return false;
  if (limits->dead_band > CEILING_DRIVE) return false;
  if (limits->timeout < FLOOR_TIMEOUT_MS || limits->timeout > CEILING_TIMEOUT_MS) return false;
  if (limits->stream_hz < STREAM_HZ_MIN || limits->stream_hz > STREAM_HZ_MAX) return false;
  if (limits->period == 0 || limits->period > CEILING_PERIOD_MS) return false;
  s->limits = *limits;
  s->config_crc = crc;
  s->configured = true;
  return true;
}

void safety_trip(safety_t *s, uint8_t fault) {
  if (fault > s->fault) s->fault = fault;
  if (fault >= FAULT_LIMIT_LOW) {
    switch_off(s);
  } else if (s->enabled) {
    begin_stop(s);
  } else {
    s->may_enable = false;
  }
}

static void clear_fault(safety_t *s) {
  if (s->fault == FAULT_ESTOP && (s->inputs & INPUT_ESTOP)) return;
  s->fault = FAULT_NONE;
}

static int32_t clamp(int32_t value, uint32_t limit) {
  if (value > (int32_t)limit) return (int32_t)limit;
  if (value < -(int32_t)limit) return -(int32_t)limit;
  return value;
}

bool safety_command(safety_t *s, const command_t *command, uint16_t now_ms) {
  bool enable = command->flags & COMMAND_ENABLE;
  /* Switching off is always obeyed, and lets a new host begin with its own numbers. */
  if (enable && s->acknowledged && (int16_t)(command->sequence - s->sequence) <= 0) {
    s->stale_frames++;
    return false;
  }
  s->sequence = command->sequence;
  s->acknowledged = true;
  s->heard_ms = now_ms;
  s->bad_in_a_row = 0;
  if (!enable) {
    switch_off(s);
    if (command->flags & COMMAND_CLEAR) clear_fault(s);
    s->may_enable = s->configured && s->fault == FAULT_NONE;
    return true;
  }
  if (s->may_enable) {
    s->may_enable = false;
    s->enabled = true;
  }
  if (!s->enabled || s->stopping) return true;
  s->homing = command->flags & COMMAND_HOMING;
  s->target = clamp(command->velocity, s->homing ? s->limits.home_v_max : s->limits.v_max);
  if (command->flags & COMMAND_RELEASE) begin_stop(s);
  return true;
}

void safety_bad_frame(safety_t *s, uint16_t now_ms) {
  if (s->bad_in_a_row && (uint16_t)(now_ms - s->bad_ms) < BURST_MS) return;
  s->bad_ms = now_ms;
  if (s->bad_in_a_row < BAD_FRAMES_IN_A_ROW) s->bad_in_a_row++;
  if (s->bad_in_a_row == BAD_FRAMES_IN_A_ROW && s->enabled) safety_trip(s, FAULT_LINK);
}

/* While homing a pressed switch stops the cart there and lets it only back away. */
static void block(safety_t *s) {
  bool low = s->inputs & INPUT_LIMIT_LOW;
  bool high = s->inputs & INPUT_LIMIT_HIGH;
  if ((low && s->target < 0) || (high && s->target > 0)) s->target = 0;
  if ((low && s->ramp.velocity < 0) || (high && s->ramp.velocity > 0)) ramp_halt(&s->ramp);
}

static void check_inputs(safety_t *s) {
  if (s->inputs & INPUT_ESTOP) safety_trip(s, FAULT_ESTOP);
  if (!s->enabled) return;
  if (s->homing) {
    block(s);
    return;
  }
  if (s->inputs & INPUT_LIMIT_LOW) safety_trip(s, FAULT_LIMIT_LOW);
  if (s->inputs & INPUT_LIMIT_HIGH) safety_trip(s, FAULT_LIMIT_HIGH);
}

static void check_heartbeat(safety_t *s, uint16_t now_ms) {
  /* A tick early: a command may have been heard up to a tick before its stamp. */
  bool silent = (uint16_t)(now_ms - s->heard_ms) >= s->limits.timeout - 1;
  if (!silent) return;
  if (s->enabled && !s->stopping) safety_trip(s, FAULT_HEARTBEAT);
  s->may_enable = false;
}

void safety_tick(safety_t *s, uint16_t now_ms, uint8_t inputs) {
  s->inputs = inputs;
  check_inputs(s);
  check_heartbeat(s, now_ms);
  if (!s->enabled) return;
  ramp_step(&s->ramp, s->target, (int32_t)s->limits.a_max, s->limits.period);
  if (s->stopping && s->ramp.velocity == 0) switch_off(s);
}

/* From the dead band up to full drive. */
static int16_t drive_units(uint32_t speed, uint32_t gain, int16_t dead_band) {
  uint32_t units = (uint32_t)(((uint64_t)speed * gain + 0x80000000u) / 0x100000000u);
  int16_t room = (int16_t)(CEILING_DRIVE - dead_band);
  return units < (uint32_t)room ? (int16_t)(dead_band + (int16_t)units) : CEILING_DRIVE;
}

int16_t safety_drive(const safety_t *s) {
  int32_t velocity = s->ramp.velocity;
  if (!s->enabled || velocity == 0) return 0;
  uint32_t speed = velocity < 0 ? (uint32_t)-velocity : (uint32_t)velocity;
  int16_t units = drive_units(speed, s->limits.gain, (int16_t)s->limits.dead_band);
  bool backward = (velocity < 0) != ((s->limits.flags & CONFIG_REVERSE) != 0);
  return backward ? (int16_t)-units : units;
}

uint8_t safety_flags(const safety_t *s) {
  uint8_t flags = s->inputs;
  if (s->enabled) flags |= SAMPLE_ENABLED;
  if (s->configured) flags |= SAMPLE_CONFIGURED;
  if (s->fault) flags |= SAMPLE_FAULT;
  if (s->acknowledged) flags |= SAMPLE_ACKNOWLEDGED;
  return flags;
}

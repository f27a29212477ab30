/* What the board permits: when the drive may be on and how fast. No registers, no clock: time comes
 * as an argument, so that the same code runs under tests on a host.
 *
 * Off at boot. CONFIG, then a command with ENABLE cleared, then one with ENABLE set turn the drive
 * on; a board that restarts under a host that goes on commanding therefore stays off. Faults latch;
 * HEARTBEAT and LINK brake along the ramp, all others switch off at once. */
#ifndef SAFETY_H
#define SAFETY_H
#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"
#include "ramp.h"

#define INPUT_LIMIT_LOW SAMPLE_LIMIT_LOW
#define INPUT_LIMIT_HIGH SAMPLE_LIMIT_HIGH
#define INPUT_ESTOP SAMPLE_ESTOP

#define BAD_FRAMES_IN_A_ROW 3
/* Spoilt frames closer than this are one burst: a command is sent every 20 ms. */
#define BURST_MS 10

typedef struct {
  config_t limits;
  uint16_t config_crc; /* 0: not configured */
  ramp_t ramp;
  int32_t target; /* um/s, as commanded */
  uint16_t heard_ms; /* last accepted command */
  uint16_t sequence; /* its sequence */
  uint16_t bad_ms; /* last spoilt frame */
  uint16_t stale_frames;
  uint8_t bad_in_a_row;
  uint8_t fault; /* enum board_fault, latched */
  uint8_t inputs; /* INPUT_ bits, set = pressed */
  bool configured;
  bool enabled; /* the drive is on */
  bool may_enable; /* a command with ENABLE cleared was heard lately */
  bool homing;
  bool stopping; /* ramping to zero, then off */
  bool acknowledged; /* sequence holds an accepted command */
} safety_t;

void safety_init(safety_t *s, uint8_t fault);
/* Whether the limits were taken: only while off, and only within the ceilings. */
bool safety_configure(safety_t *s, const config_t *limits, uint16_t crc);
/* A command that passed the CRC. Whether it was fresh. */
bool safety_command(safety_t *s, const command_t *command, uint16_t now_ms);
/* A frame that did not pass. */
void safety_bad_frame(safety_t *s, uint16_t now_ms);
/* Every millisecond, with the switches as they are. */
void safety_tick(safety_t *s, uint16_t now_ms, uint8_t inputs);
/* Latches a fault; the most severe one stays. */
void safety_trip(safety_t *s, uint8_t fault);
/* Driver units -2047..2047 for now's velocity; zero is exactly zero. */
int16_t safety_drive(const safety_t *s);
/* SAMPLE_ bits. */
uint8_t safety_flags(const safety_t *s);

#endif

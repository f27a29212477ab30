/* Random hosts, lines and switches against the firmware's logic, under the sanitizers; what must
 * always hold is asserted at every millisecond. Arguments: seed, milliseconds. */
#include <stdio.h>
#include <stdlib.h>

#include "link.h"

static uint32_t state;

static uint32_t draw(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % below;
}

#define CHECK(what)                                                   \
  if (!(what)) {                                                      \
    fprintf(stderr, "%s at %u ms\n", #what, (unsigned)total_ms);      \
    return 1;                                                         \
  }

static safety_t safety;
static link_t board, host;
static uint32_t total_ms;
static uint16_t sequence;

static void deliver(const uint8_t *wire, uint8_t size) {
  for (uint8_t i = 0; i < size; i++)
    link_receive(&board, &safety, wire[i], (uint16_t)total_ms);
}

static void send_something(void) {
  uint8_t wire[MAX_WIRE];
  uint8_t size;
  if (draw(40) == 0) {
    config_t c = {draw(2) ? 1000000 : draw(9000000), 100000 + draw(100000), 8000, 6442451,
                  100, 100, 250, 20, (uint8_t)draw(2)};
    size = link_encode(&host, wire, ID_CONFIG, &c, sizeof c);
  } else {
    uint8_t flags = draw(12) ? COMMAND_ENABLE : (uint8_t)draw(16);
    if (draw(50) == 0) flags |= COMMAND_HOMING;
    sequence = draw(60) ? (uint16_t)(sequence + 1) : (uint16_t)draw(65536);
    command_t c = {sequence, (int32_t)draw(4000000) - 2000000, flags};
    size = link_encode(&host, wire, ID_COMMAND, &c, sizeof c);
  }
  if (draw(15) == 0) wire[draw(size)] ^= (uint8_t)(1 << draw(8));
  deliver(wire, size);
}

static void send_noise(void) {
  uint8_t noise[80];
  for (uint8_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)draw(256);
  deliver(noise, (uint8_t)draw(sizeof noise));
}

static int check(int32_t before, uint32_t silent_ms, uint8_t inputs) {
  int32_t now = safety.ramp.velocity;
  int32_t change = now > before ? now - before : before - now;
  int16_t drive = safety_drive(&safety);
  CHECK(now <= 5000000 && now >= -5000000);
  CHECK(safety.enabled || now == 0);
  CHECK(safety.enabled || drive == 0);
  CHECK(drive <= CEILING_DRIVE && drive >= -CEILING_DRIVE);
  CHECK(now != 0 || drive == 0);
  CHECK(!safety.enabled || safety.configured);
  CHECK(!safety.enabled || now == 0 || change <= 8000 * 20 || !safety.configured);
  CHECK(!(inputs & INPUT_ESTOP) || !safety.enabled);
  CHECK(silent_ms < 100 || !safety.enabled || safety.stopping);
  CHECK(!(inputs & INPUT_LIMIT_LOW) || now >= 0);
  CHECK(!(inputs & INPUT_LIMIT_HIGH) || now <= 0);
  CHECK(safety.fault == FAULT_NONE || !safety.enabled || safety.stopping);
  return 0;
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  state = (uint32_t)atoi(arguments[1]) * 2654435761u + 1;
  uint32_t end = (uint32_t)atoi(arguments[2]);
  uint32_t enabled_ms = 0, next_send = 0, heard_ms = 0;
  safety_init(&safety, FAULT_NONE);
  while (total_ms++ < end) {
    uint16_t heard_before = safety.heard_ms;
    if (total_ms >= next_send) {
      send_something();
      next_send = total_ms + (draw(80) ? 20 : draw(400));
    }
    if (draw(3000) == 0) send_noise();
    if (safety.heard_ms != heard_before) heard_ms = total_ms;
    uint8_t inputs = draw(300) ? 0 : (uint8_t)draw(8);
    int32_t before = safety.ramp.velocity;
    safety_tick(&safety, (uint16_t)total_ms, inputs);
    if (check(before, total_ms - heard_ms, inputs)) return 1;
    enabled_ms += safety.enabled;
  }
  printf("%u ms, drive on in %u\n", (unsigned)end, (unsigned)enabled_ms);
  return enabled_ms > end / 20 ? 0 : 3; /* a fuzz that never drives tests nothing */
}

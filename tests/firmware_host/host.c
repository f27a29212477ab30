/* The board-free C of the firmware with a flat face for ctypes. */
#include <stdlib.h>

#include "cobs.h"
#include "crc16.h"
#include "link.h"
#include "quadrature.h"
#include "sabertooth.h"

typedef struct {
  safety_t safety;
  link_t link;
} board_under_test;

void *host_new(int fault) {
  board_under_test *b = calloc(1, sizeof *b);
  safety_init(&b->safety, (uint8_t)fault);
  return b;
}
void host_free(board_under_test *b) { free(b); }
int host_configure(board_under_test *b, const config_t *c) {
  return safety_configure(&b->safety, c, 1);
}
int host_command(board_under_test *b, int sequence, int velocity, int flags, int now_ms) {
  command_t c = {(uint16_t)sequence, velocity, (uint8_t)flags};
  return safety_command(&b->safety, &c, (uint16_t)now_ms);
}
void host_bad_frame(board_under_test *b, int now_ms) {
  safety_bad_frame(&b->safety, (uint16_t)now_ms);
}
void host_tick(board_under_test *b, int now_ms, int inputs) {
  safety_tick(&b->safety, (uint16_t)now_ms, (uint8_t)inputs);
}
void host_trip(board_under_test *b, int fault) { safety_trip(&b->safety, (uint8_t)fault); }
int host_velocity(board_under_test *b) { return b->safety.ramp.velocity; }
int host_enabled(board_under_test *b) { return b->safety.enabled; }
int host_fault(board_under_test *b) { return b->safety.fault; }
int host_drive(board_under_test *b) { return safety_drive(&b->safety); }
int host_flags(board_under_test *b) { return safety_flags(&b->safety); }
int host_stale(board_under_test *b) { return b->safety.stale_frames; }
int host_bad_frames(board_under_test *b) { return b->link.bad_frames; }
int host_ack(board_under_test *b) { return b->safety.sequence; }

/* Bytes as they come; how many frames were accepted. */
int host_receive(board_under_test *b, const uint8_t *data, int size, int now_ms) {
  int accepted = 0;
  for (int i = 0; i < size; i++) {
    enum link_event e = link_receive(&b->link, &b->safety, data[i], (uint16_t)now_ms);
    accepted += e != LINK_NOTHING && e != LINK_BAD;
  }
  return accepted;
}
int host_encode(board_under_test *b, uint8_t *out, int id, const uint8_t *fields, int size) {
  return link_encode(&b->link, out, (uint8_t)id, fields, (uint8_t)size);
}
int host_crc(const uint8_t *data, int size) { return crc16(data, (uint8_t)size); }
int host_cobs_encode(uint8_t *out, const uint8_t *data, int size) {
  return cobs_encode(out, data, (uint8_t)size);
}
int host_cobs_decode(uint8_t *data, int size) { return cobs_decode(data, (uint8_t)size); }
int host_quadrature(int before, int now) { return quadrature_table[before << 2 | now]; }
void host_packet(uint8_t *out, int units) { sabertooth_packet(out, (int16_t)units); }

/* Frames in and out: what arrives is decoded and handed to safety; what leaves is encoded. */
#ifndef LINK_H
#define LINK_H
#include <stdint.h>

#include "safety.h"

enum link_event { LINK_NOTHING, LINK_HELLO, LINK_COMMAND, LINK_CONFIG, LINK_BAD };

typedef struct {
  uint8_t buffer[MAX_WIRE];
  uint8_t size; /* MAX_WIRE: too long, waiting for its end */
  uint8_t sent; /* frame counter of this end */
  uint16_t bad_frames;
} link_t;

/* One byte from the host. */
enum link_event link_receive(link_t *link, safety_t *safety, uint8_t byte, uint16_t now_ms);
/* A frame into out[MAX_WIRE]; its size on the wire. */
uint8_t link_encode(link_t *link, uint8_t *out, uint8_t id, const void *fields, uint8_t size);

#endif

#include "link.h"

#include <string.h>

#include "cobs.h"
#include "crc16.h"

#define HEAD 2
#define CRC 2

static enum link_event bad(link_t *link, safety_t *safety, uint16_t now_ms) {
  link->bad_frames++;
  safety_bad_frame(safety, now_ms);
  return LINK_BAD;
}

static enum link_event handle(link_t *link, safety_t *safety, uint8_t size, uint16_t now_ms) {
  uint8_t *data = link->buffer;
  size = cobs_decode(data, size);
  if (size < HEAD + CRC) return bad(link, safety, now_ms);
  uint16_t found = (uint16_t)(data[size - 2] | (uint16_t)data[size - 1] << 8);
  if (crc16(data, (uint8_t)(size - CRC)) != found) return bad(link, safety, now_ms);
  /* Another version: say who we are, obey nothing. */
  if (data[0] >> 4 != PROTOCOL_VERSION) return LINK_HELLO;
  uint8_t fields = (uint8_t)(size - HEAD - CRC);
  switch (data[0] & 0x0F) {
    case ID_HELLO:
      if (fields != SIZE_HELLO) break;
      return LINK_HELLO;
    case ID_CONFIG: {
      config_t config;
      if (fields != SIZE_CONFIG) break;
      memcpy(&config, data + HEAD, sizeof config);
      safety_configure(safety, &config, crc16(data + HEAD, SIZE_CONFIG));
      return LINK_CONFIG;
    }
    case ID_COMMAND: {
      command_t command;
      if (fields != SIZE_COMMAND) break;
      memcpy(&command, data + HEAD, sizeof command);
      return safety_command(safety, &command, now_ms) ? LINK_COMMAND : LINK_NOTHING;
    }
  }
  return bad(link, safety, now_ms);
}

enum link_event link_receive(link_t *link, safety_t *safety, uint8_t byte, uint16_t now_ms) {
  if (byte) {
    if (link->size < MAX_WIRE) link->buffer[link->size++] = byte;
    return LINK_NOTHING;
  }
  uint8_t size = link->size;
  link->size = 0;
  if (size == 0) return LINK_NOTHING;
  if (size == MAX_WIRE) return bad(link, safety, now_ms);
  return handle(link, safety, size, now_ms);
}

uint8_t link_encode(link_t *link, uint8_t *out, uint8_t id, const void *fields, uint8_t size) {
  uint8_t payload[MAX_PAYLOAD];
  payload[0] = PROTOCOL_VERSION << 4 | id;
  payload[1] = ++link->sent;
  memcpy(payload + HEAD, fields, size);
  size = (uint8_t)(size + HEAD);
  uint16_t crc = crc16(payload, size);
  payload[size++] = (uint8_t)crc;
  payload[size++] = (uint8_t)(crc >> 8);
  size = cobs_encode(out, payload, size);
  out[size] = 0;
  return (uint8_t)(size + 1);
}

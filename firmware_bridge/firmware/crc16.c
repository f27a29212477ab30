#include "crc16.h"

#include "protocol.h"

/* The polynomial 0x1021 has so few terms that eight shifts fold into these xors. */
uint16_t crc16_update(uint16_t crc, uint8_t byte) {
  crc = (uint16_t)((crc >> 8) | (crc << 8));
  crc ^= byte;
  crc ^= (uint8_t)(crc & 0xFF) >> 4;
  crc ^= (uint16_t)(crc << 12);
  crc ^= (uint16_t)((crc & 0xFF) << 5);
  return crc;
}

uint16_t crc16(const uint8_t *data, uint8_t size) {
  uint16_t crc = CRC_INITIAL;
  while (size--) crc = crc16_update(crc, *data++);
  return crc;
}

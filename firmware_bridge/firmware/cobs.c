#include "cobs.h"

uint8_t cobs_encode(uint8_t *out, const uint8_t *data, uint8_t size) {
  uint8_t *code = out;
  uint8_t *next = out + 1;
  for (; size; size--, data++) {
    if (*data) {
      *next++ = *data;
    } else {
      *code = (uint8_t)(next - code);
      code = next++;
    }
  }
  *code = (uint8_t)(next - code);
  return (uint8_t)(next - out);
}

uint8_t cobs_decode(uint8_t *data, uint8_t size) {
  uint8_t read = 0, written = 0;
  while (read < size) {
    uint8_t code = data[read];
    if (code == 0 || code > size - read) return 0;
    if (read) data[written++] = 0; /* the zero that ended the block before */
    for (uint8_t i = 1; i < code; i++) data[written++] = data[read + i];
    read = (uint8_t)(read + code);
  }
  return written;
}

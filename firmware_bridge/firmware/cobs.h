/* Consistent overhead byte stuffing for frames of at most 253 bytes. */
#ifndef COBS_H
#define COBS_H
#include <stdint.h>

/* Writes size + 1 bytes without zeros to out, which must not overlap data. */
uint8_t cobs_encode(uint8_t *out, const uint8_t *data, uint8_t size);

/* Decodes in place; the number of bytes, or 0 if data is not what cobs_encode writes. */
uint8_t cobs_decode(uint8_t *data, uint8_t size);

#endif

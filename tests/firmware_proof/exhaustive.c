/* Small enough to try all of it. Prints how much; exits 1 with what was wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cobs.h"
#include "crc16.h"
#include "protocol.h"
#include "quadrature.h"
#include "sabertooth.h"

#define PATTERN_BITS 16
#define CHECK(what)                          \
  if (!(what)) {                             \
    printf("wrong: %s\n", #what);            \
    exit(1);                                 \
  }

/* The polynomial bit by bit, as it is defined. */
static uint16_t plain_crc(uint16_t crc, uint8_t byte) {
  crc ^= (uint16_t)(byte << 8);
  for (int bit = 0; bit < 8; bit++)
    crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
  return crc;
}

static long crcs(void) {
  for (uint32_t crc = 0; crc < 65536; crc++)
    for (uint32_t byte = 0; byte < 256; byte++)
      CHECK(crc16_update((uint16_t)crc, (uint8_t)byte) == plain_crc((uint16_t)crc, (uint8_t)byte));
  return 65536L * 256;
}

/* Zero is exactly zero; all else is told as it is, with seven bits a byte. */
static long packets(void) {
  for (int units = -2047; units <= 2047; units++) {
    uint8_t p[SABERTOOTH_PACKET];
    sabertooth_packet(p, (int16_t)units);
    int size = p[4] | p[5] << 7;
    CHECK((p[2] ? -size : size) == units);
    CHECK(units != 0 || (p[2] == 0 && p[4] == 0 && p[5] == 0));
    for (int i = 1; i < SABERTOOTH_PACKET; i++) CHECK(p[i] < 128);
    CHECK(p[3] == ((p[0] + p[1] + p[2]) & 127) && p[8] == ((p[4] + p[5] + p[6] + p[7]) & 127));
  }
  return 4095;
}

/* Where A leads B, each edge counts one up; the way back counts down; two lines at once: unknown. */
static long steps(void) {
  static const int order[4] = {0, 1, 3, 2};
  for (int a = 0; a < 4; a++)
    for (int b = 0; b < 4; b++) {
      int way = (b - a + 4) % 4;
      int right = way == 0 ? 0 : way == 1 ? 1 : way == 3 ? -1 : QUADRATURE_ILLEGAL;
      CHECK(quadrature_table[order[a] << 2 | order[b]] == right);
    }
  return 16;
}

/* Framing sees only where the zeros are: every pattern of them at every length up to 16, then each
 * longer payload with no zero, with one, and with two. */
static void round_trip(const uint8_t *data, uint8_t size) {
  uint8_t wire[MAX_WIRE + 1];
  uint8_t length = cobs_encode(wire, data, size);
  CHECK(length == size + 1);
  CHECK(memchr(wire, 0, length) == NULL);
  CHECK(cobs_decode(wire, length) == size);
  CHECK(memcmp(wire, data, size) == 0);
}

static long frames(void) {
  long tried = 0;
  uint8_t data[MAX_PAYLOAD];
  for (uint8_t size = 0; size <= PATTERN_BITS; size++)
    for (uint32_t zeros = 0; zeros < 1u << size; zeros++, tried++) {
      for (uint8_t i = 0; i < size; i++) data[i] = zeros >> i & 1 ? 0 : (uint8_t)(i + 1);
      round_trip(data, size);
    }
  for (uint8_t size = PATTERN_BITS + 1; size <= MAX_PAYLOAD; size++)
    for (uint8_t a = 0; a <= size; a++)
      for (uint8_t b = 0; b <= size; b++, tried++) {
        for (uint8_t i = 0; i < size; i++) data[i] = i == a || i == b ? 0 : (uint8_t)(255 - i);
        round_trip(data, size);
      }
  return tried;
}

int main(void) {
  printf("%ld check sums, %ld packets, %ld steps, %ld frames\n", crcs(), packets(), steps(),
         frames());
  return 0;
}

/* Every frame length there is, filled with any bytes: what any_bytes.c takes for granted. */
#include "cobs.h"
#include "crc16.h"
#include "protocol.h"

volatile uint8_t any;
uint16_t found;

int main(void) {
  uint8_t data[MAX_WIRE];
  for (uint8_t size = 1; size < MAX_WIRE; size++) {
    for (uint8_t i = 0; i < MAX_WIRE; i++) data[i] = any;
    uint8_t left = cobs_decode(data, size);
    /*@ check shorter: left < size; */
    /*@ slevel merge; */
    found = crc16(data, size);
  }
  return 0;
}

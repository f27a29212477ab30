/* A board to which anything happens in any order, for ever: Eva looks for undefined behaviour. The
 * ramp and the readers of a frame's length stand here as their contracts, which are shown elsewhere
 * (contracts.c, wire.c). */
#include <string.h>

#include "cobs.h"
#include "crc16.h"
#include "link.h"
#include "quadrature.h"
#include "ramp_contract.h"
#include "rules.h"
#include "sabertooth.h"

/*@ requires 0 < size && size < MAX_WIRE;
    requires \valid(data + (0 .. size - 1));
    assigns data[0 .. size - 1], \result \from data[0 .. size - 1], size;
    ensures \result < size;
*/
uint8_t cobs_decode(uint8_t *data, uint8_t size);

/*@ requires 0 < size < MAX_WIRE && \valid_read(data + (0 .. size - 1));
    assigns \result \from data[0 .. size - 1], size;
*/
uint16_t crc16(const uint8_t *data, uint8_t size);

volatile uint8_t any;
volatile uint16_t any_clock;
int8_t turned;

int main(void) {
  safety_t safety;
  link_t link = {0};
  status_t status;
  uint8_t out[MAX_WIRE], packet[SABERTOOTH_PACKET];
  safety_init(&safety, any);
  /*@ check at_boot: sound(safety); */
  for (unsigned i = 0; i < sizeof status; i++) ((uint8_t *)&status)[i] = any;
  /*@ loop widen_hints link.size, 36; */
  while (any) {
    switch (any) {
      case 0: link_receive(&link, &safety, any, any_clock); break;
      case 1: safety_tick(&safety, any_clock, any); break;
      case 2: sabertooth_packet(packet, safety_drive(&safety)); break;
      case 3: link_encode(&link, out, ID_STATUS, &status, sizeof status); break;
      case 4: safety_trip(&safety, any); break;
      case 5: status.flags = safety_flags(&safety); break;
      case 6: turned = quadrature_table[any & 15]; break;
    }
  }
  return 0;
}

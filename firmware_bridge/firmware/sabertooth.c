#include "sabertooth.h"

#define ADDRESS 128
#define COMMAND_SET 40
#define NEGATIVE 1

void sabertooth_packet(uint8_t packet[SABERTOOTH_PACKET], int16_t units) {
  uint16_t size = (uint16_t)(units < 0 ? -units : units);
  packet[0] = ADDRESS;
  packet[1] = COMMAND_SET;
  packet[2] = units < 0 ? NEGATIVE : 0;
  packet[3] = (uint8_t)(packet[0] + packet[1] + packet[2]) & 127;
  packet[4] = size & 127;
  packet[5] = (uint8_t)(size >> 7) & 127;
  packet[6] = 'M';
  packet[7] = 1;
  packet[8] = (uint8_t)(packet[4] + packet[5] + packet[6] + packet[7]) & 127;
}

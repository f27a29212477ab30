/* Packet serial of the USB Sabertooth family: "set motor 1" with the simple check sums. */
#ifndef SABERTOOTH_H
#define SABERTOOTH_H
#include <stdint.h>

#define SABERTOOTH_PACKET 9

/* Fills packet for units -2047..2047 on motor 1, address 128. */
void sabertooth_packet(uint8_t packet[SABERTOOTH_PACKET], int16_t units);

#endif

/* CRC-16/CCITT-FALSE, a byte at a time. */
#ifndef CRC16_H
#define CRC16_H
#include <stdint.h>

uint16_t crc16_update(uint16_t crc, uint8_t byte);
uint16_t crc16(const uint8_t *data, uint8_t size);

#endif

/* The sketch's face for the Arduino IDE: everything is in the C files beside it. main.c brings its
 * own main(), so that none of the core's interrupts run. Board: Arduino Uno or Nano (ATmega328P,
 * 16 MHz). */

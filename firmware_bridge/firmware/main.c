/* The board: ATmega328P at 16 MHz (Arduino Uno, Nano). Registers and interrupts live here and
 * nowhere else; what is permitted is decided in safety.c, what the bytes mean in link.c.
 *
 *   D2 D3   cart encoder A, B           D4  drive enable, high = on (10 kOhm to ground!)
 *   A0 A1   pole encoder A, B           D6  PWM 31 kHz        D7  direction, high = backward
 *   D8 D10  limit switch low, high      D9  Sabertooth packet serial
 *   D11     emergency stop              D13 light: drive on
 *
 * Switches are normally closed to ground with the internal pull-up: pressed, or a broken wire,
 * reads high. Timer 1 counts half microseconds and is clock, millisecond tick and bit clock of the
 * packet serial at once; timer 0 makes the PWM. */
#include <avr/eeprom.h>
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>
#include <avr/wdt.h>
#include <string.h>
#include <util/atomic.h>

#include "link.h"
#include "quadrature.h"
#include "sabertooth.h"
#include "safety.h"

#define FIRMWARE 1 /* revision */

#ifndef BAUD /* the Arduino IDE does not read the Makefile */
#define BAUD 115200UL
#endif
#ifndef SABERTOOTH_BAUD
#define SABERTOOTH_BAUD 38400UL
#endif

#define BAUD_DIVIDER ((F_CPU / 4 / BAUD - 1) / 2) /* double speed, rounded */

#define ENABLE_PIN _BV(PD4)
#define DIRECTION_PIN _BV(PD7)
#define LIGHT_PIN _BV(PB5)
#define SWITCH_LOW _BV(PB0)
#define SWITCH_HIGH _BV(PB2)
#define SWITCH_ESTOP _BV(PB3)
#define SWITCHES (SWITCH_LOW | SWITCH_HIGH | SWITCH_ESTOP)

#define HALF_US_PER_MS 2000
#define BIT_TIME ((2000000UL + SABERTOOTH_BAUD / 2) / SABERTOOTH_BAUD) /* half microseconds */
#define STALL_MS 5
#define STATUS_IDLE_MS 50
#define STATUS_LEAST_MS 10
#define PACKET_EVERY_MS 5
#define RUNNING 0xA55A

static volatile int16_t cart_raw, pole_raw;
static volatile uint16_t cart_errors, pole_errors;
static uint8_t cart_state, pole_state;

static volatile uint16_t overflows_low, overflows_high; /* of timer 1 */
static volatile uint16_t now_ms;
static volatile uint8_t unserved_ms; /* ticks the main loop has not taken yet */

static volatile uint8_t switches_seen; /* pressed since the last tick, however briefly */
static volatile uint8_t stalled;

#define RX_SIZE 64
static volatile uint8_t rx_ring[RX_SIZE], rx_head;
static uint8_t rx_tail;
static volatile uint16_t overruns;

#define TX_SIZE 128
static uint8_t tx_ring[TX_SIZE];
static uint8_t tx_head;
static volatile uint8_t tx_tail;

static uint8_t packet[SABERTOOTH_PACKET];
static volatile uint8_t packet_left; /* bytes */
static uint8_t packet_index, packet_bit;

static safety_t safety;
static link_t link;
static int32_t cart_counts, pole_counts;
static uint16_t boot_id, loop_max_half_us;
static bool streaming;

/* Survive a reset, and are not cleared at the start. */
static uint16_t was_running __attribute__((section(".noinit"))); /* RUNNING: the drive was on */
static uint8_t reset_cause __attribute__((section(".noinit")));

/* After a watchdog reset the watchdog still runs, and quickly: switch it off before anything. */
void stop_watchdog(void) __attribute__((naked, used, section(".init3")));
void stop_watchdog(void) {
  reset_cause = MCUSR;
  MCUSR = 0;
  wdt_disable();
}

/* Encoders ---------------------------------------------------------------------------------- */

ISR(INT0_vect) {
  uint8_t state = (PIND >> 2) & 3;
  int8_t step = quadrature_table[cart_state << 2 | state];
  cart_state = state;
  if (step == QUADRATURE_ILLEGAL) cart_errors++;
  else cart_raw += step;
}
ISR(INT1_vect, ISR_ALIASOF(INT0_vect));

ISR(PCINT1_vect) {
  uint8_t state = PINC & 3;
  int8_t step = quadrature_table[pole_state << 2 | state];
  pole_state = state;
  if (step == QUADRATURE_ILLEGAL) pole_errors++;
  else pole_raw += step;
}

/* Drive off, within microseconds; the main loop decides within the millisecond what follows. */
static inline void kill_drive(void) {
  PORTD &= (uint8_t)~ENABLE_PIN;
  OCR0A = 0;
}

ISR(PCINT0_vect) {
  uint8_t pressed = PINB & SWITCHES;
  if (pressed) {
    kill_drive();
    switches_seen |= pressed;
  }
}

/* Time -------------------------------------------------------------------------------------- */

ISR(TIMER1_OVF_vect) {
  if (++overflows_low == 0) overflows_high++;
}

ISR(TIMER1_COMPB_vect) {
  OCR1B += HALF_US_PER_MS;
  now_ms++;
  if (++unserved_ms >= STALL_MS) {
    kill_drive();
    stalled = 1;
    unserved_ms = STALL_MS;
  }
}

/* The rest of the clock's 32 bits and the counters, all of one moment; time in us. */
static void latch(sample_t *sample) {
  uint16_t low, high, timer;
  int16_t cart, pole;
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    timer = TCNT1;
    cart = cart_raw;
    pole = pole_raw;
    low = overflows_low;
    high = overflows_high;
    if ((TIFR1 & _BV(TOV1)) && timer < 0x8000 && ++low == 0) high++;
  }
  sample->time = ((uint32_t)high << 31) | ((uint32_t)low << 15) | (timer >> 1);
  cart_counts += (int16_t)(cart - (int16_t)cart_counts);
  pole_counts += (int16_t)(pole - (int16_t)pole_counts);
  sample->cart = cart_counts;
  sample->pole = pole_counts;
  sample->flags = safety_flags(&safety);
}

/* Host line --------------------------------------------------------------------------------- */

ISR(USART_RX_vect) {
  uint8_t flags = UCSR0A;
  uint8_t byte = UDR0;
  uint8_t next = (rx_head + 1) & (RX_SIZE - 1);
  if ((flags & _BV(DOR0)) || next == rx_tail) overruns++;
  if (next == rx_tail) return;
  rx_ring[rx_head] = byte;
  rx_head = next;
}

ISR(USART_UDRE_vect) {
  uint8_t tail = tx_tail;
  UDR0 = tx_ring[tail];
  tail = (tail + 1) & (TX_SIZE - 1);
  tx_tail = tail;
  if (tail == tx_head) UCSR0B &= (uint8_t)~_BV(UDRIE0);
}

/* Whole or not at all: the host sees a gap in the frame counter. */
static void send(uint8_t id, const void *fields, uint8_t size) {
  uint8_t frame[MAX_WIRE];
  uint8_t length = link_encode(&link, frame, id, fields, size);
  uint8_t room = (uint8_t)(tx_tail - tx_head - 1) & (TX_SIZE - 1);
  if (length > room) return;
  uint8_t head = tx_head;
  for (uint8_t i = 0; i < length; i++) {
    tx_ring[head] = frame[i];
    head = (head + 1) & (TX_SIZE - 1);
  }
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    tx_head = head;
    UCSR0B |= _BV(UDRIE0);
  }
}

static void send_board(void) {
  board_t board = {
      .boot_id = boot_id,
      .reset_cause = reset_cause,
      .firmware = FIRMWARE,
      .v_ceiling = CEILING_VELOCITY_UM_S,
      .a_ceiling = CEILING_ACCELERATION_MM_S2,
  };
  send(ID_BOARD, &board, sizeof board);
}

static void send_status(const sample_t *now, int16_t drive) {
  status_t status = {
      .time = now->time,
      .boot_id = boot_id,
      .ack = safety.sequence,
      .config_crc = safety.config_crc,
      .velocity = safety.ramp.velocity,
      .drive = drive,
      .fault = safety.fault,
      .flags = now->flags,
      .bad_frames = link.bad_frames,
      .stale_frames = safety.stale_frames,
      .loop_max = loop_max_half_us / 2,
  };
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    status.overruns = overruns;
    status.cart_errors = cart_errors;
    status.pole_errors = pole_errors;
  }
  send(ID_STATUS, &status, sizeof status);
}

/* Motor ------------------------------------------------------------------------------------- */

/* The timer itself sets the pin at the compare match; this only says which level comes next, so
 * that encoder interrupts cannot move an edge. */
ISR(TIMER1_COMPA_vect) {
  OCR1A += BIT_TIME;
  uint8_t bit = packet_bit++;
  uint8_t high;
  if (bit == 0) {
    high = 0; /* start */
  } else if (bit <= 8) {
    high = packet[packet_index] & 1;
    packet[packet_index] >>= 1;
  } else {
    high = 1; /* stop */
    packet_bit = 0;
    packet_index++;
    if (--packet_left == 0) TIMSK1 &= (uint8_t)~_BV(OCIE1A);
  }
  TCCR1A = high ? _BV(COM1A1) | _BV(COM1A0) : _BV(COM1A1);
}

static void send_packet(int16_t units) {
  if (packet_left) return;
  sabertooth_packet(packet, units);
  packet_index = 0;
  packet_bit = 0;
  packet_left = SABERTOOTH_PACKET;
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    OCR1A = TCNT1 + BIT_TIME;
    TIFR1 = _BV(OCF1A);
    TIMSK1 |= _BV(OCIE1A);
  }
}

/* Eight bits of PWM for eleven of drive: what is left over is carried to the next millisecond. */
static void drive_motor(int16_t units) {
  static uint8_t carry;
  uint16_t size = (uint16_t)(units < 0 ? -units : units);
  uint16_t level = size ? size + carry : 0;
  carry = level & 7;
  uint8_t duty = level >= 255 * 8 ? 255 : (uint8_t)(level >> 3);
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    if (switches_seen || stalled || !safety.enabled) {
      kill_drive();
    } else {
      if (units < 0) PORTD |= DIRECTION_PIN;
      else PORTD &= (uint8_t)~DIRECTION_PIN;
      OCR0A = duty;
      PORTD |= ENABLE_PIN;
    }
  }
  if (safety.enabled) PORTB |= LIGHT_PIN;
  else PORTB &= (uint8_t)~LIGHT_PIN;
}

/* Main loop --------------------------------------------------------------------------------- */

static uint8_t read_switches(void) {
  uint8_t pins;
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    pins = (PINB & SWITCHES) | switches_seen;
    switches_seen = 0;
  }
  uint8_t inputs = 0;
  if (pins & SWITCH_LOW) inputs |= INPUT_LIMIT_LOW;
  if (pins & SWITCH_HIGH) inputs |= INPUT_LIMIT_HIGH;
  if (pins & SWITCH_ESTOP) inputs |= INPUT_ESTOP;
  return inputs;
}

/* Takes what has arrived; whether a command or limits were accepted. */
static bool receive(uint16_t now) {
  bool accepted = false;
  while (rx_tail != rx_head) {
    uint8_t byte = rx_ring[rx_tail];
    rx_tail = (rx_tail + 1) & (RX_SIZE - 1);
    switch (link_receive(&link, &safety, byte, now)) {
      case LINK_HELLO:
        streaming = true;
        send_board();
        break;
      case LINK_COMMAND:
      case LINK_CONFIG:
        accepted = true;
        break;
      default:
        break;
    }
  }
  return accepted;
}

static void tick(uint16_t now, bool answer) {
  static uint16_t stream_phase;
  static uint8_t since_status, since_packet;
  static bool answer_waits;
  if (stalled) {
    safety_trip(&safety, FAULT_STALLED);
    stalled = 0;
  }
  safety_tick(&safety, now, read_switches());
  int16_t units = safety_drive(&safety);
  drive_motor(units);
  was_running = safety.enabled ? RUNNING : 0;
  if (++since_packet >= PACKET_EVERY_MS) {
    since_packet = 0;
    send_packet(units);
  }
  sample_t sample;
  latch(&sample); /* every time: the interrupts' counters have 16 bits */
  if (!streaming) return;
  answer_waits |= answer;
  stream_phase += safety.configured ? safety.limits.stream_hz : STREAM_HZ_MIN;
  if (stream_phase >= 1000) {
    stream_phase -= 1000;
    send(ID_SAMPLE, &sample, sizeof sample);
  }
  if (since_status < 255) since_status++;
  if (since_status >= (answer_waits ? STATUS_LEAST_MS : STATUS_IDLE_MS)) {
    since_status = 0;
    answer_waits = false;
    send_status(&sample, units);
  }
}

static void begin(void) {
  EICRA = _BV(ISC00) | _BV(ISC10);
  DDRD = ENABLE_PIN | DIRECTION_PIN | _BV(PD6);
  PORTB = SWITCHES | _BV(PB1);
  DDRB = _BV(PB1) | LIGHT_PIN;
  PORTD = _BV(PD2) | _BV(PD3);
  PORTC = _BV(PC0) | _BV(PC1);

  boot_id = eeprom_read_word((const uint16_t *)0) + 1;
  eeprom_update_word((uint16_t *)0, boot_id);
  safety_init(&safety, was_running == RUNNING ? FAULT_RESET : FAULT_NONE);
  was_running = 0;

  TCCR0A = _BV(COM0A1) | _BV(WGM00);
  TCCR0B = _BV(CS00);
  TCCR1A = _BV(COM1A1) | _BV(COM1A0);
  TCCR1C = _BV(FOC1A); /* the line idles high from now on */
  TCCR1B = _BV(CS11);
  OCR1B = HALF_US_PER_MS;
  TIMSK1 = _BV(OCIE1B) | _BV(TOIE1);

  UCSR0A = _BV(U2X0);
  UBRR0 = BAUD_DIVIDER;
  UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
  UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);

  cart_state = (PIND >> 2) & 3;
  pole_state = PINC & 3;
  EIMSK = _BV(INT0) | _BV(INT1);
  PCMSK0 = SWITCHES;
  PCMSK1 = _BV(PCINT8) | _BV(PCINT9);
  PCICR = _BV(PCIE0) | _BV(PCIE1);
  wdt_enable(WDTO_30MS);
  set_sleep_mode(SLEEP_MODE_IDLE);
  sei();
}

int main(void) {
  begin();
  bool answer = false;
  for (;;) {
    cli();
    if (!unserved_ms && rx_head == rx_tail) {
      sleep_enable();
      sei(); /* the instruction after sei runs before any interrupt: none is slept through */
      sleep_cpu();
      sleep_disable();
      continue;
    }
    uint16_t began = TCNT1;
    uint8_t due = unserved_ms;
    uint16_t now = now_ms - due; /* time of the last tick taken */
    sei();
    GPIOR0 = 1; /* lets a simulator time this turn */
    answer |= receive(now + due);
    for (; due; due--) {
      tick(++now, answer);
      answer = false;
      cli();
      unserved_ms--;
      sei();
    }
    wdt_reset();
    GPIOR0 = 0;
    cli();
    uint16_t took = TCNT1 - began;
    sei();
    if (took > loop_max_half_us) loop_max_half_us = took;
  }
}

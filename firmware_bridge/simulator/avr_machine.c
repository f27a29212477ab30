/* A flat interface over libsimavr for one simulated ATmega328P in lock-step virtual time.
 *
 * Everything is counted in chip cycles: pins and encoder edges are scheduled, the host's bytes go in
 * and out, and what the program does to its outputs is logged with its cycle. The same calls give
 * the same results every time. */
#include <sim_avr.h>
#include <sim_elf.h>
#include <sim_interrupts.h>
#include <avr_ioport.h>
#include <avr_uart.h>
#include <stdlib.h>
#include <string.h>

#define FROM_BOARD 65536
#define TO_BOARD 8192
#define LOG 65536
#define SEGMENTS 4096
#define VECTORS 26
#define GPIOR0_ADDRESS 0x3E
#define OCR0A_ADDRESS 0x47
#define TCCR1A_ADDRESS 0x80
#define COM1A0_BIT 0x40

enum output { OUT_ENABLE, OUT_DIRECTION, OUT_PWM, OUT_SERIAL, OUT_RESET };

typedef struct {
  uint64_t cycle;
  uint32_t kind, value;
} entry_t;

typedef struct {
  uint64_t begin, end;
  int64_t from;
  int32_t counts;
} segment_t;

typedef struct {
  char port;
  int pin; /* of line A; B is the next */
  int64_t count;
  segment_t segments[SEGMENTS];
  uint32_t head, tail;
  int32_t done; /* edges of the segment at tail */
  struct machine *machine;
} encoder_t;

typedef struct {
  uint64_t entered, longest, total, count;
  uint64_t raised, longest_wait;
} timing_t;

typedef struct machine {
  avr_t *avr;
  avr_irq_t *to_uart;
  uint8_t from_board[FROM_BOARD], to_board[TO_BOARD];
  uint32_t from_head, from_tail, to_head, to_tail;
  int uart_ready;
  entry_t log[LOG];
  uint32_t log_head, log_tail;
  encoder_t encoders[2];
  timing_t timings[VECTORS];
  timing_t loop;
  avr_ioport_external_t external[3]; /* of ports B, C, D */
  void (*core_reset)(avr_t *);
  uint8_t duty;
  int log_serial;
  uint32_t patched_at;
  uint16_t patched;
  int is_patched;
} machine_t;

typedef struct {
  machine_t *machine;
  uint32_t number;
} context_t;

/* avr->reset and avr->sleep carry no parameter: machines are found by their core. */
#define MACHINES 64
static machine_t *machines[MACHINES];

static machine_t *find(avr_t *avr) {
  for (int i = 0; i < MACHINES; i++)
    if (machines[i] && machines[i]->avr == avr) return machines[i];
  return NULL;
}

static void note(machine_t *m, uint32_t kind, uint32_t value) {
  entry_t entry = {m->avr->cycle, kind, value};
  m->log[m->log_head++ % LOG] = entry;
  if (m->log_head - m->log_tail > LOG) m->log_tail++;
}

static void on_output(avr_irq_t *irq, uint32_t value, void *parameter) {
  context_t *context = parameter;
  note(context->machine, context->number, value);
  (void)irq;
}

static void watch(machine_t *m, avr_irq_t *irq, uint32_t kind) {
  context_t *context = malloc(sizeof *context);
  context->machine = m;
  context->number = kind;
  avr_irq_register_notify(irq, on_output, context);
}

static void on_byte(avr_irq_t *irq, uint32_t value, void *parameter) {
  machine_t *m = parameter;
  if (m->from_head - m->from_tail < FROM_BOARD)
    m->from_board[m->from_head++ % FROM_BOARD] = (uint8_t)value;
  (void)irq;
}

static void pump(machine_t *m) {
  while (m->uart_ready && m->to_tail != m->to_head)
    avr_raise_irq(m->to_uart, m->to_board[m->to_tail++ % TO_BOARD]);
}

static void on_ready(avr_irq_t *irq, uint32_t value, void *parameter) {
  machine_t *m = parameter;
  m->uart_ready = 1;
  pump(m);
  (void)irq, (void)value;
}

static void on_full(avr_irq_t *irq, uint32_t value, void *parameter) {
  ((machine_t *)parameter)->uart_ready = 0;
  (void)irq, (void)value;
}

static void on_running(avr_irq_t *irq, uint32_t value, void *parameter) {
  context_t *context = parameter;
  timing_t *t = &context->machine->timings[context->number];
  uint64_t now = context->machine->avr->cycle;
  if (value) {
    t->entered = now;
    uint64_t waited = t->raised ? now - t->raised : 0;
    if (waited > t->longest_wait) t->longest_wait = waited;
    return;
  }
  uint64_t took = now - t->entered;
  t->count++;
  t->total += took;
  if (took > t->longest) t->longest = took;
  (void)irq;
}

static void on_pending(avr_irq_t *irq, uint32_t value, void *parameter) {
  context_t *context = parameter;
  timing_t *t = &context->machine->timings[context->number];
  t->raised = value ? context->machine->avr->cycle : 0; /* 0: being served, or withdrawn */
  (void)irq;
}

static void on_marker(avr_t *avr, avr_io_addr_t address, uint8_t value, void *parameter) {
  machine_t *m = parameter;
  avr->data[address] = value;
  if (value) {
    m->loop.entered = avr->cycle;
  } else if (m->loop.entered) {
    uint64_t took = avr->cycle - m->loop.entered;
    m->loop.count++;
    m->loop.total += took;
    if (took > m->loop.longest) m->loop.longest = took;
  }
}

static void on_duty(avr_t *avr, avr_io_addr_t address, uint8_t value, void *parameter) {
  machine_t *m = parameter;
  avr->data[address] = value;
  if (value != m->duty) note(m, OUT_PWM, value);
  m->duty = value;
}

static void on_level(avr_t *avr, avr_io_addr_t address, uint8_t value, void *parameter) {
  machine_t *m = parameter;
  avr->data[address] = value;
  if (m->log_serial) note(m, OUT_SERIAL, (value & COM1A0_BIT) != 0);
}

static avr_cycle_count_t on_edge(avr_t *avr, avr_cycle_count_t when, void *parameter);

static void on_reset(avr_t *avr) {
  machine_t *m = find(avr);
  /* A reset forgets all timers; the world outside goes on. */
  for (int axis = 0; axis < 2; axis++) {
    encoder_t *e = &m->encoders[axis];
    if (e->head != e->tail) avr_cycle_timer_register(avr, 1, on_edge, e);
  }
  if (m->is_patched) {
    avr->flash[m->patched_at] = (uint8_t)m->patched;
    avr->flash[m->patched_at + 1] = (uint8_t)(m->patched >> 8);
    m->is_patched = 0;
  }
  m->loop.entered = 0;
  m->duty = 0;
  note(m, OUT_RESET, 1);
  if (m->core_reset) m->core_reset(avr);
}

static void never_sleep(avr_t *avr, avr_cycle_count_t cycles) { (void)avr, (void)cycles; }

static void be_quiet(avr_t *avr, const int level, const char *format, va_list arguments) {
  (void)avr, (void)level, (void)format, (void)arguments;
}

/* Told to the port too: else its pull-up would take the pin back at the next write to the port. */
static void set_pin(machine_t *m, char port, int pin, int value) {
  avr_ioport_external_t *e = &m->external[port - 'B'];
  e->name = (unsigned)port;
  e->mask |= 1u << pin;
  e->value = (e->value & ~(1u << pin)) | (unsigned)(value != 0) << pin;
  avr_ioctl(m->avr, AVR_IOCTL_IOPORT_SET_EXTERNAL(port), e);
  avr_raise_irq(avr_io_getirq(m->avr, AVR_IOCTL_IOPORT_GETIRQ(port), pin), value);
}

static void set_encoder(encoder_t *e) {
  /* A leads B. At rest both lines are high: low ones, seen before the program has chosen edges,
   * would be taken for level interrupts, and simavr goes on polling those. */
  int phase = (int)(e->count & 3);
  set_pin(e->machine, e->port, e->pin, phase == 0 || phase == 3);
  set_pin(e->machine, e->port, e->pin + 1, phase <= 1);
}

static uint64_t edge_cycle(const segment_t *s, int32_t index) {
  uint64_t size = (uint64_t)(s->counts < 0 ? -s->counts : s->counts);
  return s->begin + (s->end - s->begin) * (uint64_t)(index + 1) / size;
}

static avr_cycle_count_t on_edge(avr_t *avr, avr_cycle_count_t when, void *parameter) {
  encoder_t *e = parameter;
  (void)when;
  while (e->tail != e->head) {
    segment_t *s = &e->segments[e->tail % SEGMENTS];
    int32_t size = s->counts < 0 ? -s->counts : s->counts;
    if (e->done == size) {
      e->tail++;
      e->done = 0;
      continue;
    }
    uint64_t due = edge_cycle(s, e->done);
    if (due > avr->cycle) return due;
    e->done++;
    e->count += s->counts < 0 ? -1 : 1;
    set_encoder(e);
  }
  return 0;
}

/* Counts spread evenly over (begin, end]; segments follow one another. -1: too many at once. */
int machine_move(machine_t *m, int axis, int32_t counts, uint64_t begin, uint64_t end) {
  encoder_t *e = &m->encoders[axis];
  if (counts == 0) return 0;
  if (e->head - e->tail >= SEGMENTS) return -1;
  int idle = e->head == e->tail;
  segment_t s = {begin, end, 0, counts};
  e->segments[e->head++ % SEGMENTS] = s;
  if (idle) {
    uint64_t due = edge_cycle(&s, 0);
    avr_cycle_count_t wait = due > m->avr->cycle ? due - m->avr->cycle : 1;
    avr_cycle_timer_register(m->avr, wait, on_edge, e);
  }
  return 0;
}

int64_t machine_count(machine_t *m, int axis) { return m->encoders[axis].count; }

static void watch_interrupts(machine_t *m) {
  for (uint32_t vector = 1; vector < VECTORS; vector++) {
    avr_irq_t *irq = avr_get_interrupt_irq(m->avr, (uint8_t)vector);
    if (!irq) continue;
    context_t *context = malloc(sizeof *context);
    context->machine = m;
    context->number = vector;
    avr_irq_register_notify(irq + AVR_INT_IRQ_RUNNING, on_running, context);
    avr_irq_register_notify(irq + AVR_INT_IRQ_PENDING, on_pending, context);
  }
}

static void connect_uart(machine_t *m) {
  avr_t *avr = m->avr;
  uint32_t flags = 0;
  avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
  flags &= ~(uint32_t)(AVR_UART_FLAG_STDIO | AVR_UART_FLAG_POLL_SLEEP);
  avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
  avr_irq_t *(*irq)(avr_t *, uint32_t, int) = avr_io_getirq;
  avr_irq_register_notify(irq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_byte, m);
  avr_irq_register_notify(irq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_ready, m);
  avr_irq_register_notify(irq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_full, m);
  m->to_uart = irq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
  m->uart_ready = 1;
}

static void watch_outputs(machine_t *m) {
  avr_t *avr = m->avr;
  watch(m, avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('D'), 4), OUT_ENABLE);
  watch(m, avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('D'), 7), OUT_DIRECTION);
  /* simavr raises nothing for phase-correct PWM and gets output-compare pins wrong: their registers
   * tell. A write to TCCR1A chooses the level that the serial line takes one bit time later. */
  avr_register_io_write(avr, OCR0A_ADDRESS, on_duty, m);
  avr_register_io_write(avr, TCCR1A_ADDRESS, on_level, m);
  avr_register_io_write(avr, GPIOR0_ADDRESS, on_marker, m);
}

static void connect_inputs(machine_t *m) {
  m->encoders[0].port = 'D';
  m->encoders[0].pin = 2;
  m->encoders[1].port = 'C';
  m->encoders[1].pin = 0;
  for (int axis = 0; axis < 2; axis++) {
    m->encoders[axis].machine = m;
    set_encoder(&m->encoders[axis]);
  }
  /* Switches at rest: closed to ground. */
  set_pin(m, 'B', 0, 0);
  set_pin(m, 'B', 2, 0);
  set_pin(m, 'B', 3, 0);
}

/* A board at power-up with the program in elf; NULL if it cannot be made. */
machine_t *machine_new(const char *elf, uint32_t hz) {
  elf_firmware_t firmware;
  int slot = 0;
  while (slot < MACHINES && machines[slot]) slot++;
  if (slot == MACHINES) return NULL;
  avr_global_logger_set(be_quiet);
  memset(&firmware, 0, sizeof firmware);
  if (elf_read_firmware(elf, &firmware)) return NULL;
  avr_t *avr = avr_make_mcu_by_name("atmega328p");
  if (!avr) return NULL;
  machine_t *m = calloc(1, sizeof *m);
  m->avr = avr;
  machines[slot] = m;
  avr_init(avr);
  firmware.frequency = hz;
  avr_load_firmware(avr, &firmware);
  avr->sleep = never_sleep;
  m->core_reset = avr->reset;
  avr->reset = on_reset;
  connect_uart(m);
  watch_outputs(m);
  watch_interrupts(m);
  connect_inputs(m);
  return m;
}

void machine_free(machine_t *m) {
  for (int i = 0; i < MACHINES; i++)
    if (machines[i] == m) machines[i] = NULL;
  avr_terminate(m->avr);
  free(m);
}

uint64_t machine_cycle(machine_t *m) { return m->avr->cycle; }

static avr_cycle_count_t on_stop(avr_t *avr, avr_cycle_count_t when, void *parameter) {
  (void)avr, (void)when, (void)parameter;
  return 0;
}

/* Runs to the cycle; the core's state (cpu_Crashed is the end). */
int machine_run(machine_t *m, uint64_t until) {
  avr_t *avr = m->avr;
  if (until <= avr->cycle) return avr->state;
  avr_cycle_timer_register(avr, until - avr->cycle, on_stop, m); /* a core asleep stops there too */
  while (avr->cycle < until) {
    /* The chip wakes from an interrupt that comes together with the sleep instruction. */
    if (avr->state == cpu_Sleeping && avr_has_pending_interrupts(avr)) avr->state = cpu_Running;
    int state = avr_run(avr);
    if (state == cpu_Done || state == cpu_Crashed) return state;
  }
  return avr->state;
}

int machine_read(machine_t *m, uint8_t *buffer, int size) {
  int n = 0;
  while (n < size && m->from_tail != m->from_head)
    buffer[n++] = m->from_board[m->from_tail++ % FROM_BOARD];
  return n;
}

int machine_write(machine_t *m, const uint8_t *buffer, int size) {
  int n = 0;
  while (n < size && m->to_head - m->to_tail < TO_BOARD)
    m->to_board[m->to_head++ % TO_BOARD] = buffer[n++];
  pump(m);
  return n;
}

int machine_log(machine_t *m, entry_t *entries, int size) {
  int n = 0;
  while (n < size && m->log_tail != m->log_head) entries[n++] = m->log[m->log_tail++ % LOG];
  return n;
}

/* The packet serial's bits are many: they are logged on request. */
void machine_log_serial(machine_t *m, int on) { m->log_serial = on; }

void machine_pin(machine_t *m, char port, int pin, int value) { set_pin(m, port, pin, value); }

void machine_timing(machine_t *m, int vector, uint64_t out[4]) {
  timing_t *t = vector < 0 ? &m->loop : &m->timings[vector];
  out[0] = t->count;
  out[1] = t->longest;
  out[2] = t->total;
  out[3] = t->longest_wait;
}

/* The reset button. */
void machine_reset(machine_t *m) { avr_reset(m->avr); }

/* Replaces the next instruction by a jump to itself until the next reset. */
void machine_hang(machine_t *m, int with_interrupts) {
  avr_t *avr = m->avr;
  while (avr->state == cpu_Sleeping || avr->interrupts.running_ptr) avr_run(avr);
  m->patched_at = avr->pc;
  m->patched = (uint16_t)(avr->flash[avr->pc] | avr->flash[avr->pc + 1] << 8);
  m->is_patched = 1;
  avr->flash[avr->pc] = 0xFF; /* rjmp .-2 */
  avr->flash[avr->pc + 1] = 0xCF;
  if (!with_interrupts) avr->sreg[S_I] = 0;
}


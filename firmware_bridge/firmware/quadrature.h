/* Four-fold quadrature decoding: a state is (B << 1) | A. */
#ifndef QUADRATURE_H
#define QUADRATURE_H
#include <stdint.h>

#define QUADRATURE_ILLEGAL 2

/* Step from the old to the new state, indexed by (old << 2) | new: A leading B counts up. Both
 * lines changed at once: a step was missed and its direction is unknown. */
extern const int8_t quadrature_table[16];

#endif

#include "quadrature.h"

const int8_t quadrature_table[16] = {
    0, 1, -1, QUADRATURE_ILLEGAL, -1, 0, QUADRATURE_ILLEGAL, 1,
    1, QUADRATURE_ILLEGAL, 0, -1, QUADRATURE_ILLEGAL, -1, 1, 0,
};

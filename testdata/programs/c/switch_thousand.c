// A thousand cases: table and function are large, targets far.
#include "../program.h"
#include <stdio.h>
static volatile unsigned sink;
#define C1(n) case n: sink += n * 7u; x = x * 33u + n; if (x & 1) sink ^= x; break;
#define C10(n) C1(n##0) C1(n##1) C1(n##2) C1(n##3) C1(n##4) C1(n##5) C1(n##6) C1(n##7) C1(n##8) C1(n##9)
#define C100(n) C10(n##0) C10(n##1) C10(n##2) C10(n##3) C10(n##4) C10(n##5) C10(n##6) C10(n##7) C10(n##8) C10(n##9)
NOINLINE unsigned big(unsigned op, unsigned x) {
    switch (op) {
    C100(1) C100(2) C100(3) C100(4) C100(5) C100(6) C100(7) C100(8) C100(9) C100(10)
    default: return x + 1;
    }
    return x;
}
PROGRAM {
    unsigned x = 1;
    for (unsigned op = 90; op < 1110; op++) x = big(op, x);
    printf("%u %u\n", x, sink);
    return 0;
}

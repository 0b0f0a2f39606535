// Two switches on one value: tables may be shared, merged or adjacent.
#include "../program.h"
#include <stdio.h>
NOINLINE int twice(unsigned op, int x) {
    int r = 0;
    switch (op) { case 0: r = x; break; case 1: r = x * 2; break; case 2: puts("a2"); break; case 3: r = x + 9; break; case 4: r = -x; break; case 5: puts("a5"); r = 2; break; default: return -1; }
    if (r & 1) puts("odd");
    switch (op) { case 0: r += x; break; case 1: r ^= x * 2; break; case 2: puts("b2"); break; case 3: r -= x + 9; break; case 4: r *= -x; break; case 5: puts("b5"); r = 2; break; default: __builtin_unreachable(); }
    return r;
}
NOINLINE int same_shape(unsigned op, int x) {
    switch (op) { case 0: return x; case 1: puts("s1"); return 1; case 2: return x * x; case 3: puts("s3"); return 3; case 4: return x - 4; case 5: return 55; default: return -1; }
}
NOINLINE int same_shape_again(unsigned op, int x) {
    switch (op) { case 0: return x; case 1: puts("t1"); return 1; case 2: return x * x; case 3: puts("t3"); return 3; case 4: return x - 4; case 5: return 55; default: return -1; }
}
PROGRAM {
    for (unsigned op = 0; op < 8; op++) printf("%d %d %d\n", twice(op, 13), same_shape(op, 7), same_shape_again(op, 8));
    return 0;
}

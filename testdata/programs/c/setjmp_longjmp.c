// setjmp returns twice, from deep frames, in a loop, with volatile state.
#include "../program.h"
#include <setjmp.h>
#include <stdio.h>
static jmp_buf outer, inner;
NOINLINE void deep(int n) {
    volatile char frame[64];
    frame[n & 63] = (char)n;
    if (n == 0) longjmp(inner, 7);
    deep(n - 1);
    if (frame[n & 63] != (char)n) puts("impossible");
}
NOINLINE int attempt(int n) {
    volatile int tries = 0;
    int code = setjmp(inner);
    tries++;
    switch (code) {
    case 0: deep(n); break;
    case 7: if (tries < 4) deep(n + tries); break;
    default: puts("never"); break;
    }
    if (tries == 4) longjmp(outer, n + 1);
    return tries;
}
PROGRAM {
    volatile int rounds = 0;
    int code = setjmp(outer);
    printf("outer %d after %d\n", code, rounds);
    if (++rounds < 5) return attempt(rounds * 3);
    return 0;
}

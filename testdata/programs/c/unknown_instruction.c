// An instruction that the checker's decoder does not know (the prefix REX2 of APX), in front of calls that nothing but decoding tells of.
#include "../program.h"
#include <stdio.h>
NOINLINE static int one(int x) { volatile int y = x; while (y > 9) y -= 3; return y; }
NOINLINE static int two(int x) { volatile int y = x; if (y & 1) y = one(y) + 1; return y * 2; }
NOINLINE static int user(int x) {
    volatile int never = 0;
    if (never) __asm__ volatile(".byte 0xd5, 0x10, 0x89, 0xc0" ::: "memory"); // mov %r16d, %eax
    return one(x) + two(x + 1);
}
NOINLINE static int other(int x) { volatile int y = user(x); if (y > 100) y -= 50; return y; }
PROGRAM {
    int sum = 0;
    for (int i = 0; i < 100; i++) sum += other(i);
    printf("%d\n", sum);
    return 0;
}
